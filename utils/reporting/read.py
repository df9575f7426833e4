"""Finished runs found, read from their folders and put together in groups."""

import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NotRequired, TypedDict

from sparselearning.averages import PARAMETERS, option_name
from sparselearning.errors import UsageError
from sparselearning.flops import Counting
from utils.command_line.options import NAMES, Options, changes_results, effective, recorded
from utils.command_line.rows import Setting
from utils.evaluations.table import evaluated
from utils.reporting.groups import ABOUT, NORMAL, OTHERS, PLAIN, About, Cost, Group, Member
from utils.run_folder.contents import Results, Summary
from utils.run_folder.finished import FinishedRun, read_content, read_run, reading
from utils.training.costs import COUNTINGS, trained_epochs
from utils.training.metrics import DIVERSITY, SCORE

# options that make no row of their own
SHARED = {"seed", "sparse", "save_tickets", "deterministic", *(name for name in NAMES if not changes_results(name))}
OLDER = {"prune_average": "last"}  # what older versions did without recording it

AVERAGING = ("superpose", *map(option_name, PARAMETERS), "prune_average", "bn", "greedy")  # of a superposition


class Superposed(TypedDict):
    """What utils.superpose writes of tickets of a run, and parameters of AVERAGES."""

    superpose: str
    prune_average: NotRequired[str]
    bn: str
    greedy: bool
    superposed: dict[str, object]  # metrics, and more


def find_summaries(places: Iterable[str]) -> list[Path]:
    """The summary.json of every finished run: given itself, in a run folder, or anywhere below a folder.

    The runs of an ensemble count where they are named themselves, and not as parts of the folder that holds all.

    Raises:
        UsageError: there is none in a place.
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
    """The runs by everything but their seed; `costs.add_costs` adds what they cost.

    Raises:
        UsageError: a summary is damaged or lacks a number.
    """
    groups: dict[str, Group] = {}
    for path in summaries:
        for summary, options in _runs(path):
            with reading(path):
                about, numbers = _about(summary, options), _numbers(summary["test"])
                run = Member(summary["seed"], numbers, _cost(summary, options, counting), summary)
            group = groups.setdefault(repr(about), Group(about))
            if run.seed in group.seeds:
                print(f"note: {path} repeats seed {run.seed} of {group.title}, not independently", file=sys.stderr)
            elif (start := summary.get("start_from")) and start in group.starts:
                print(f"note: {path} shares its normal phase with another of {group.title}: {start}", file=sys.stderr)
            group.runs.append(run)
    return sorted(groups.values(), key=Group.rank)


def _runs(path: Path) -> Iterator[FinishedRun]:
    """A run, and each of its superpositions/*.json as if it had been the run's."""
    summary, options = read_run(path)
    options = {**OLDER, **options} if options else {}
    yield FinishedRun(summary, options)
    for other in sorted(path.parent.glob("superpositions/*.json")):
        again = read_content(other, Superposed)
        said = {name: value for name, value in again.items() if isinstance(value, str | int | float)}
        changes = {name: said.get(name, OLDER.get(name)) for name in AVERAGING}
        superposed = {name: number for name, number in again["superposed"].items() if isinstance(number, int | float)}
        test: Results = {**summary["test"], "superposed": superposed}
        yield FinishedRun({**summary, "test": test}, {**options, **changes})


def _about(summary: Summary, options: Mapping[str, Setting]) -> About:
    """What a run does not record has its default."""
    others: dict[str, Setting] = {}
    if options:
        run = recorded({**options, "sparse": summary["method"] != "dense", "sup_tickets": summary["sup_tickets"]})
        others = others_of(run, {name: value for name, value in options.items() if name not in NAMES})
    return About(
        data=summary["data"],
        model=summary["model"],
        density=float(summary["density"]),
        epochs=summary["epochs"],
        method=summary["method"],
        sup_tickets=summary["sup_tickets"],
        others=others,
    )


def others_of(run: Options, more: Mapping[str, Setting] = MappingProxyType({})) -> dict[str, Setting]:
    """The options that make a row of the report, beside those of ABOUT, in the order of their names.

    Args:
        more: what is no option, but tells rows apart too.
    """
    # no seed's paths
    others = {"rewind": run.rewind is not None, "start_from": run.start_from is not None}
    rest = {**effective(run), **more, **others, "distill": len(run.distill) or None}
    off = {*ABOUT, *SHARED, *(name for name, value in rest.items() if value is None or value is False)}
    return {name: value for name, value in sorted(rest.items()) if name not in off}


def _numbers(test: Results) -> dict[str, float]:
    """The columns of one run but for those of its cost: SCORE at every stage, and more of the model to use.

    Another metric that the version of the run did not have yet is left out.
    """
    stages = {NORMAL: test["normal"]} if "normal" in test else {}
    stages |= {f"ticket {i}": ticket for i, ticket in enumerate(test.get("tickets", ()), 1)}
    stages |= {"superposed": test["superposed"]} if "superposed" in test else {}
    stages |= {"ensemble": test["ensemble"]} if "ensemble" in test else {}
    use = stages.get("superposed") or stages.get("ensemble")
    if use is None:
        use = stages[PLAIN] = test["final"]
    numbers = {name: metrics[SCORE] for name, metrics in stages.items()}
    for table, metrics in ((DIVERSITY, stages.get("ensemble", use)), (OTHERS, use)):
        numbers |= {metric.title: metrics[name] for name, metric in table.items() if name in metrics}
    numbers |= {column.title: use[name] for name, column in evaluated(use).items()}
    return {name: float(number) for name, number in numbers.items()}


def _cost(summary: Summary, options: Mapping[str, Setting], counting: Counting) -> Cost:
    """Runs of older versions tell no FLOPs but their share, in the plain count."""
    flops = summary["flops"]
    end = COUNTINGS[counting] if "train" in flops else ""
    trained = trained_epochs(summary, options, counting)
    return Cost(float(trained), float(flops[f"test_ratio{end}"]), float(flops.get(f"dense_epoch{end}", 0)))
