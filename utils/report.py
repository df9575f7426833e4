"""The papers' tables from run folders: accuracy at every stage of a run, as mean ± standard deviation over the seeds.

python -m utils.report runs/                        every finished run below, a row per setting
python -m utils.report runs/a runs/b --plot a.png   some, and a picture of them
"""

import csv
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import yaml

from sparselearning.errors import UsageError
from sparselearning.methods import METHODS
from utils.arguments import Help, Parser
from utils.checkpoints import FREE
from utils.errors import one_line_errors
from utils.files import read_json, write_whole
from utils.plots import ACCENT, FAINT, INK, plt

ABOUT = {"data": str, "model": str, "density": float, "epochs": int, "method": str, "sup_tickets": bool}
SHARED = {"seed", *FREE} - {"batch_size", "gradient_accumulation_steps"}  # options that make no row of their own
NORMAL, PLAIN, COST = "normal phase", "plain run", ("train FLOPs", "test FLOPs")
LANES = {  # of a row in the picture: height, marker, size, colour
    NORMAL: (-0.25, "o", 5, FAINT), "tickets": (0.0, "o", 5, INK), "superposed": (0.25, "*", 9, ACCENT),
    "ensemble": (0.25, "D", 5, ACCENT), PLAIN: (0.0, "s", 5, INK),
}  # fmt: skip


@dataclass
class Group:
    """Runs that differ in nothing but the seed.

    Attributes:
        about: the options of ABOUT, then all others that change results, as far as the runs say.
        values: {column of the table: a number per run}; accuracies in percent, FLOPs in those of the dense network.
    """

    about: dict[str, Any]
    seeds: list[int] = field(default_factory=list)
    values: dict[str, list[float]] = field(default_factory=dict)

    def names(self, odd: Sequence[str]) -> list[str]:
        """What tells this group from others in print: method, sparsity, epochs and the options in `odd`."""
        name, density = self.about["method"], self.about["density"]
        title = METHODS[name].title if name in METHODS else name.capitalize()
        title += " + Sup-tickets" * self.about["sup_tickets"]
        return [title, f"{100 * (1 - density):.4g} %", *(str(self.about.get(n, "")) for n in ("epochs", *odd))]

    def rank(self) -> tuple[Any, ...]:
        """Every method beside itself with Sup-tickets, the methods in the papers' order after the dense network."""
        data, model, density, epochs, method, sup, *others = self.about.values()
        order = list(METHODS).index(method) if method in METHODS else -1
        return data, model, -density, epochs, order, method, sup, repr(others)


def find_summaries(places: Iterable[str]) -> list[Path]:
    """The summary.json of every finished run: given itself, in a run folder, or anywhere below a folder."""
    found: dict[Path, Path] = {}
    for place in map(Path, places):
        summaries = [place] if place.is_file() else sorted(place.rglob("summary.json"))
        if not summaries:
            raise UsageError(f"no finished run in {place}: give folders that hold a summary.json, or one above them")
        found |= {path.resolve(): path for path in summaries}
    return list(found.values())


def read_groups(summaries: Iterable[Path]) -> list[Group]:
    """The runs by everything but their seed. Raises UsageError where a summary is damaged or lacks a number."""
    groups: dict[str, Group] = {}
    for path in summaries:
        summary = read_json(path)
        try:
            options = path.with_name("args.yaml")  # missing where only the summary was kept
            settings = yaml.safe_load(options.read_text()) or {} if options.is_file() else {}
            about = {name: kind(summary[name]) for name, kind in ABOUT.items()}
            told = {name: value for name, value in sorted(settings.items()) if value is not None and value is not False}
            about |= {name: value for name, value in told.items() if name not in {*ABOUT, *SHARED} and value != []}
            seed, numbers = summary["seed"], {name: float(number) for name, number in _numbers(summary).items()}
        except (KeyError, TypeError, ValueError, AttributeError, OSError, yaml.YAMLError) as error:
            problem = f"{error} is missing" if isinstance(error, KeyError) else " ".join(str(error).split())
            raise UsageError(f"{path.parent} is not the folder of a finished run: {problem}") from error
        group = groups.setdefault(repr(about), Group(about))
        if seed in group.seeds:
            print(f"note: {path} repeats seed {seed} of {group.names(())[0]}, not independently", file=sys.stderr)
        group.seeds.append(seed)
        for name, number in numbers.items():
            group.values.setdefault(name, []).append(number)
    return sorted(groups.values(), key=Group.rank)


def _numbers(summary: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of one run; NLL and ECE are those of the model to use."""
    test, flops = summary["test"], summary["flops"]
    tickets = {f"ticket {i}": ticket for i, ticket in enumerate(test.get("tickets") or (), 1)}
    stages = {NORMAL: test.get("normal"), **tickets, **{n: test.get(n) for n in ("superposed", "ensemble")}}
    use = stages["superposed"] or stages["ensemble"] or test["final"]
    stages[PLAIN] = use if use is test["final"] else None
    numbers = {name: metrics["accuracy"] for name, metrics in stages.items() if metrics}
    costs = {name: flops[name.replace(" FLOPs", "_ratio")] for name in COST}
    return {**numbers, "NLL": use["nll"], "ECE": use["ece"], **costs}


def columns(groups: Sequence[Group]) -> list[str]:
    """Those that any group fills, in the order of a run."""
    filled = {name for group in groups for name in group.values}
    tickets = [f"ticket {i}" for i in range(1, len(filled))]
    return [n for n in (NORMAL, *tickets, "superposed", "ensemble", PLAIN, "NLL", "ECE", *COST) if n in filled]


def odd_settings(groups: Sequence[Group]) -> list[str]:
    """The options outside ABOUT that tell groups apart that agree on ABOUT, e.g. `superpose`."""
    kin = [list(kin) for _, kin in groupby(groups, lambda group: [group.about[name] for name in ABOUT])]
    names = dict.fromkeys(name for group in groups for name in group.about)
    return [name for name in names if any(len({repr(g.about.get(name)) for g in part}) > 1 for part in kin)]


def markdown(groups: Sequence[Group]) -> str:
    """The table."""
    numbers, odd = columns(groups), odd_settings(groups)
    rows = [["data", "model", "method", "sparsity", "epochs", *odd, "seeds", *numbers]]
    for group in groups:
        about = [group.about["data"], group.about["model"], *group.names(odd), str(len(group.seeds))]
        rows.append(about + [cell(name, group.values.get(name, ())) for name in numbers])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rows.insert(1, ["-" * width for width in widths])
    return "\n".join("| " + " | ".join(map(str.ljust, row, widths)) + " |" for row in rows)


def cell(name: str, values: Sequence[float]) -> str:
    """Mean ± sample standard deviation (n − 1); just the mean of a cost or a single run."""
    digits = 3 if name in ("NLL", "ECE") else 2
    mean = f"{fmean(values):.{digits}f}" if values else ""
    spread = f" ± {stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{mean}×" if name in COST else mean + spread


def record(group: Group, about: Sequence[str], numbers: Sequence[str]) -> dict[str, Any]:
    """A row as data: of every number its mean and, of several runs, its standard deviation; else None."""
    row: dict[str, Any] = {name: group.about.get(name) for name in about} | {"n": len(group.seeds)}
    for name in numbers:
        values = group.values.get(name, ())
        row[name], row[f"{name} std"] = fmean(values) if values else None, stdev(values) if len(values) > 1 else None
    return row


def draw(path: Path, groups: Sequence[Group]) -> None:
    """A panel per network and data set, a row per group: a dot per run, and a stroke at their mean."""
    panels = [(title, list(panel)) for title, panel in groupby(groups, "{0.about[model]} on {0.about[data]}".format)]
    rows = [len(panel) + 0.5 for _, panel in panels]
    figure, axes = plt.subplots(len(panels), height_ratios=rows, squeeze=False, layout="constrained")
    figure.set_size_inches(8, 0.9 + 0.7 * sum(rows))
    handles: dict[str, Any] = {}
    for axis, (title, panel) in zip(axes[:, 0], panels, strict=True):
        for y, group in enumerate(panel):
            pooled = [v for name, values in group.values.items() if name.startswith("ticket ") for v in values]
            for name, (lane, marker, ms, color) in LANES.items():
                if values := pooled if name == "tickets" else group.values.get(name, []):
                    heights = [y + lane] * len(values)
                    (handles[name],) = axis.plot(values, heights, marker, ms=ms, mew=0, color=color, alpha=0.6)
                    axis.plot(fmean(values), y + lane, "|", ms=13, mew=1.5, color=color)
        names = [group.names(odd_settings(panel)) for group in panel]
        labels = [", ".join(filter(None, ["{}\n{} sparse, {} epochs".format(*n[:3]), *n[3:]])) for n in names]
        axis.set_yticks(range(len(panel)), labels)
        axis.set(title=title, ylim=(len(panel) - 0.5, -0.5), xlabel="test accuracy (%)")
        axis.spines[["top", "right"]].set_visible(False)
    figure.legend(handles.values(), handles, loc="outside upper center", ncols=len(handles), frameon=False)
    figure.savefig(path, dpi=150)
    plt.close(figure)


@one_line_errors()
def main(argv: Sequence[str] | None = None) -> None:
    parser = Parser("python -m utils.report", description=__doc__.split("\n")[0], formatter_class=Help)
    parser.add_argument("runs", nargs="+", metavar="RUN", help="run folder, summary.json, or folder above run folders")
    for kind, what in {"json": "the table as data", "csv": "the table as data", "plot": "a picture of it"}.items():
        parser.add_argument(f"--{kind}", type=Path, metavar="FILE", help=what)
    args = parser.parse_args(argv)
    groups = read_groups(find_summaries(args.runs))
    rows = [record(group, [*ABOUT, *odd_settings(groups)], columns(groups)) for group in groups]
    print(markdown(groups))
    try:
        if args.json:
            write_whole(args.json, json.dumps(rows, indent=2) + "\n")
        if args.csv:
            with open(args.csv, "w", newline="") as file:
                csv.writer(file).writerows([rows[0], *(row.values() for row in rows)])
        if args.plot:
            draw(args.plot, groups)
    except (OSError, ValueError) as error:  # ValueError: a picture of unknown format
        raise UsageError(f"cannot write what was asked for: {error}") from error


if __name__ == "__main__":
    main()
