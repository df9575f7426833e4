"""The table of the report: a row per group of runs, as cells to print and as data."""

from collections.abc import Sequence
from itertools import groupby
from statistics import fmean, stdev

from utils.command_line.rows import Setting
from utils.evaluations.table import titled
from utils.reporting.costs import COST
from utils.reporting.groups import NORMAL, OTHERS, PLAIN, TITLED, Group
from utils.reporting.paper import Beside
from utils.training.metrics import DIVERSITY, METRICS, SCORE

# of the columns of metrics but SCORE
DIGITS = {metric.title: metric.digits for metric in (*OTHERS.values(), *DIVERSITY.values())}


def columns(groups: Sequence[Group]) -> list[str]:
    """Those that any group fills, in the order of a run."""
    filled = dict.fromkeys(name for group in groups for name in group.values)
    tickets = [f"ticket {i}" for i in range(1, len(filled))]
    diversity, others = ([metric.title for metric in table.values()] for table in (DIVERSITY, OTHERS))
    order = (NORMAL, *tickets, "superposed", "ensemble", *diversity, PLAIN, *others, *filter(titled, filled), *COST)
    return [name for name in order if name in filled]


def distinctive_options(groups: Sequence[Group]) -> list[str]:
    """The options that tell groups of one kind apart, e.g. `superpose`."""
    kinds = [list(kind) for _, kind in groupby(groups, Group.kind)]
    names = dict.fromkeys(name for group in groups for name in group.about.others if name not in TITLED)
    values = {name: [{repr(group.about.others.get(name)) for group in kind} for kind in kinds] for name in names}
    return [name for name, of_kinds in values.items() if any(len(of_kind) > 1 for of_kind in of_kinds)]


def results_table(groups: Sequence[Group], papers: Sequence[Beside] | None = None) -> list[list[str]]:
    """The table as cells, the header first; with figures of the papers, each after ours, and what they are of."""
    numbers, options = columns(groups), distinctive_options(groups)
    both = {name: any(name in beside.figures for beside in papers or ()) for name in numbers}
    header = ["data", "model", "method", "sparsity", "epochs", *options, "seeds"]
    for name in numbers:
        header += [name, f"{name}, paper"] if both[name] else [name]
    rows = [header + ["the paper's"] * (papers is not None)]
    for group, beside in zip(groups, papers or [Beside({}, "")] * len(groups), strict=True):
        row = [group.about.data, group.about.model, *group.names(options), str(len(group.seeds))]
        for name in numbers:
            row.append(cell(name, group.values.get(name, ())))
            if both[name]:
                row.append(beside.figures.get(name, "") + "×" * (name in COST and name in beside.figures))
        rows.append(row + [beside.where or "no such row"] * (papers is not None))
    return rows


def cell(name: str, values: Sequence[float]) -> str:
    """Mean ± sample standard deviation (n − 1); just the mean of a cost or a single run."""
    digits = own.digits if (own := titled(name)) else DIGITS.get(name, METRICS[SCORE].digits)
    mean = f"{fmean(values):.{digits}f}" if values else ""
    spread = f" ± {stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{mean}×" if name in COST else mean + spread


def record(
    group: Group, about: Sequence[str], numbers: Sequence[str], paper: Beside | None = None
) -> dict[str, Setting]:
    """A row as data: of every number its mean and, of several runs, its standard deviation; else None.

    With the figures of a paper, as they are printed there, and what they are of.
    """
    options = group.about.options
    row: dict[str, Setting] = {name: options.get(name) for name in about}
    row |= {"title": group.title, "n": len(group.seeds)}
    for name in numbers:
        values = group.values.get(name, ())
        row[name], row[f"{name} std"] = fmean(values) if values else None, stdev(values) if len(values) > 1 else None
        if paper is not None:
            row[f"{name} paper"] = paper.figures.get(name)
    return row if paper is None else row | {"paper": paper.where or None}
