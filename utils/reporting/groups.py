"""Finished runs, read from their folders and put together: runs of a group differ in nothing but the seed."""

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from sparselearning.errors import UsageError
from sparselearning.flops import Counting
from sparselearning.methods import METHODS
from utils.command_line.options import NAMES, changes_results, defaults, recorded
from utils.command_line.rows import does_nothing, rows, shown
from utils.files.whole import read_json
from utils.run_folder.folder import BROKEN, broken, read_run
from utils.training.costs import COUNTINGS, trained_epochs
from utils.training.metrics import DIVERSITY, METRICS, SCORE

ABOUT = {"data": str, "model": str, "density": float, "epochs": int, "method": str, "sup_tickets": bool}
# options that make no row of their own
SHARED = {"seed", "sparse", "save_tickets", "deterministic", *(name for name in NAMES if not changes_results(name))}
REGIMES = ("edst", "snapshot", "fge", "rewind", "distill", "ensemble")  # options that the title tells
NORMAL, PLAIN = "normal phase", "plain run"
OTHERS = {name: metric for name, metric in METRICS.items() if name != SCORE}  # each a column
OLDER = {"prune_average": "last"}  # what they did that do not say


class Cost(NamedTuple):
    """FLOPs of a run: training in epochs of its dense network, inference relative to that network, and of an epoch."""

    train: float
    test: float
    epoch: float  # 0: an older run does not say


class Member(NamedTuple):
    """A run of a group; `numbers`: {column of the table: number}, accuracies in percent."""

    seed: int
    numbers: dict[str, float]
    cost: Cost
    summary: Mapping[str, Any]


@dataclass
class Group:
    """Runs that differ in nothing but the seed.

    Attributes:
        about: the options of ABOUT, then all others that change results, as far as the runs say.
    """

    about: dict[str, Any]
    runs: list[Member] = field(default_factory=list)

    @property
    def seeds(self) -> list[int]:
        return [run.seed for run in self.runs]

    @property
    def values(self) -> dict[str, list[float]]:
        """{column of the table: the number of every run}, of the columns that all runs have."""
        names = [name for name in self.runs[0].numbers if all(name in run.numbers for run in self.runs)]
        return {name: [run.numbers[name] for run in self.runs] for name in names}

    @property
    def title(self) -> str:
        """The regime as the papers print it, e.g. "RigL + Sup-tickets"."""
        name, options = self.about["method"], self.about
        title = METHODS[name].title if name in METHODS else name.capitalize()
        if options.get("width", 1) != 1:
            title = f"Small-{title}" if name == "dense" else f"{title}, width {options['width']:g}"
        swa = options.get("cycle_lr") == "swa" and options.get("growth") == "none"  # averages that explore nothing
        title += (" + SWA" if swa else " + Sup-tickets") * options["sup_tickets"]
        title += " + distillation" * ("distill" in options)
        switches = {"edst": "EDST", "snapshot": "Snapshot", "fge": "FGE", "rewind": "rewound (LTR)"}
        parts = [title, *(what for name, what in switches.items() if name in options)]
        parts += [f"ensemble of {options['ensemble']}"] if "ensemble" in options else []
        return ", ".join(parts)

    def names(self, odd: Sequence[str]) -> list[str]:
        """What tells this group from others in print: title, sparsity, epochs and the options in `odd`."""
        sparsity = f"{100 * (1 - self.about['density']):.4g} %"
        return [self.title, sparsity, *(shown(self.about.get(name, "")) for name in ("epochs", *odd))]

    def kind(self) -> list[Any]:
        """Groups of one kind have their other options shown, to tell them apart."""
        return [*(self.about[name] for name in ABOUT), self.title]

    def rank(self) -> tuple[Any, ...]:
        """Every method beside itself with Sup-tickets, the methods in the papers' order after the dense network."""
        data, model, density, epochs, method, sup, *others = self.about.values()
        order = list(METHODS).index(method) if method in METHODS else -1
        average = str(self.about.get("superpose"))
        return data, model, -density, epochs, order, method, sup, self.title, average, repr(others)


def find_summaries(places: Iterable[str]) -> list[Path]:
    """The summary.json of every finished run: given itself, in a run folder, or anywhere below a folder.

    The runs of an ensemble count where they are named themselves, and not as parts of the folder that holds all.
    """
    found: dict[Path, Path] = {}
    for place in map(Path, places):
        summaries = [place] if place.is_file() else sorted(place.rglob("summary.json"))
        summaries = [path for path in summaries if path == place or path.parent == place or not _is_member(path)]
        if not summaries:
            raise UsageError(f"no finished run in {place}: give folders that hold a summary.json, or one above them")
        found |= {path.resolve(): path for path in summaries}
    return list(found.values())


def _is_member(path: Path) -> bool:
    folder = path.absolute().parent
    return folder.name.startswith("member-") and (folder.parent / "summary.json").is_file()


def read_groups(summaries: Iterable[Path], counting: Counting = "plain") -> list[Group]:
    """The runs by everything but their seed; `report_costs` adds what they cost.

    Raises:
        UsageError: a summary is damaged or lacks a number.
    """
    groups: dict[str, Group] = {}
    for path in summaries:
        try:
            rows = [
                (_about(s, options), Member(s["seed"], _numbers(s), _cost(s, options, counting), s))
                for s, options in _read(path)
            ]
        except BROKEN as error:
            raise UsageError(f"{path.parent} is not the folder of a finished run: {broken(error)}") from error
        for about, run in rows:
            group = groups.setdefault(repr(about), Group(about))
            if run.seed in group.seeds:
                print(f"note: {path} repeats seed {run.seed} of {group.title}, not independently", file=sys.stderr)
            group.runs.append(run)
    return sorted(groups.values(), key=Group.rank)


def _read(path: Path) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """The summary and the options of a run, and of each of its superpositions/*.json as if it had been the run's."""
    summary, options = read_run(path)
    options = {**OLDER, **options} if options else {}
    yield summary, options
    for other in sorted(path.parent.glob("superpositions/*.json")):
        again = {**OLDER, **read_json(other)}
        changes = {name: again[name] for name in ("superpose", "cima_beta", "prune_average", "bn", "greedy")}
        yield {**summary, "test": {**summary["test"], "superposed": again["superposed"]}}, {**options, **changes}


def _about(summary: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """ABOUT, then the options in the order of their names; what a run does not tell is as by default, or did nothing.
    """
    about = {name: kind(summary[name]) for name, kind in ABOUT.items()}
    told = {**_defaults(about, options), **options} if options else {}
    told |= {"rewind": bool(told.get("rewind")), "distill": len(told.get("distill") or ()) or None}  # no seed's paths
    told = {name: list(value) if isinstance(value, tuple) else value for name, value in sorted(told.items())}
    if told.get("superpose") != "cima":
        told.pop("cima_beta", None)
    off = {*ABOUT, *SHARED, *(name for name, value in told.items() if value is None or value is False or value == [])}
    return about | {name: value for name, value in told.items() if name not in off}


def _defaults(about: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """Of the options that did something in the run."""
    run = recorded({**options, "sparse": about["method"] != "dense", "sup_tickets": about["sup_tickets"]})
    told = rows(type(run))
    return {name: value for name, value in defaults(type(run)).items() if not does_nothing(told[name], run)}


def _numbers(summary: Mapping[str, Any]) -> dict[str, float]:
    """The columns of one run but for those of its cost: SCORE at every stage, OTHERS of the model to use.

    A metric that the version of the run did not have yet is left out.
    """
    test = summary["test"]
    tickets = {f"ticket {i}": ticket for i, ticket in enumerate(test.get("tickets") or (), 1)}
    stages = {NORMAL: test.get("normal"), **tickets, **{n: test.get(n) for n in ("superposed", "ensemble")}}
    use = stages["superposed"] or stages["ensemble"] or test["final"]
    stages[PLAIN] = use if use is test["final"] else None
    numbers = {name: metrics[SCORE] for name, metrics in stages.items() if metrics}
    for table, metrics in ((DIVERSITY, stages["ensemble"] or {}), (OTHERS, use)):
        numbers |= {metric.title: metrics[name] for name, metric in table.items() if name in metrics}
    return {name: float(number) for name, number in numbers.items()}


def _cost(summary: Mapping[str, Any], options: Mapping[str, Any], counting: Counting) -> Cost:
    """Runs of older versions tell no FLOPs but their share, in the plain count."""
    flops = summary["flops"]
    end = COUNTINGS[counting] if "train" in flops else ""
    trained = trained_epochs(summary, options, counting)
    return Cost(float(trained), float(flops[f"test_ratio{end}"]), float(flops.get(f"dense_epoch{end}", 0)))
