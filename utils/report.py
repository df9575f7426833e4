"""The papers' tables from run folders: accuracy at every stage of a run, as mean ± standard deviation over the seeds.

python -m utils.report runs/                        every finished run below, a row per setting
python -m utils.report runs/a runs/b --plot a.png   some, and a picture of them
python -m utils.report runs/ --significance         and whether Sup-tickets make a difference
python -m utils.report runs/ --layers               and the sparsity of every layer
"""

from utils.command_line.commands import ReportOptions
from utils.command_line.parser import parse
from utils.command_line.program import start

if __name__ == "__main__":  # a mistake is answered before the imports below, which take seconds
    start()
    OPTIONS = parse(ReportOptions, __doc__)

import csv
import io
import json
import textwrap
from collections.abc import Sequence
from itertools import groupby, product
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from matplotlib.backend_bases import FigureCanvasBase
from scipy.stats import ks_2samp

from sparselearning.errors import UsageError
from utils.command_line.errors import one_line_errors
from utils.command_line.options import ROWS
from utils.files.whole import write_whole
from utils.reporting.costs import COST, add_costs
from utils.reporting.groups import ABOUT, NORMAL, OTHERS, PLAIN, REGIMES, Group, find_summaries, read_groups
from utils.reporting.layers import layers
from utils.reporting.plots import ACCENT, FAINT, INK, plt
from utils.reporting.tables import markdown
from utils.training.metrics import DIVERSITY

PICTURES = FigureCanvasBase.get_supported_filetypes()
LANES = {  # of a row in the picture: height, marker, size, colour
    NORMAL: (-0.25, "o", 5, FAINT), "tickets": (0.0, "o", 5, INK), "superposed": (0.25, "*", 9, ACCENT),
    "ensemble": (0.25, "D", 5, ACCENT), PLAIN: (0.0, "s", 5, INK),
}  # fmt: skip


def columns(groups: Sequence[Group]) -> list[str]:
    """Those that any group fills, in the order of a run."""
    filled = {name for group in groups for name in group.values}
    tickets = [f"ticket {i}" for i in range(1, len(filled))]
    diversity, others = ([metric.title for metric in table.values()] for table in (DIVERSITY, OTHERS))
    order = (NORMAL, *tickets, "superposed", "ensemble", *diversity, PLAIN, *others, *COST)
    return [name for name in order if name in filled]


def odd_settings(groups: Sequence[Group]) -> list[str]:
    """The options that tell groups of one kind apart, e.g. `superpose`."""
    kin = [list(kin) for _, kin in groupby(groups, Group.kind)]
    names = dict.fromkeys(name for group in groups for name in group.about if name not in REGIMES)
    return [name for name in names if any(len({repr(g.about.get(name)) for g in part}) > 1 for part in kin)]


def results(groups: Sequence[Group]) -> list[list[str]]:
    """The table as cells, the header first."""
    numbers, odd = columns(groups), odd_settings(groups)
    rows = [["data", "model", "method", "sparsity", "epochs", *odd, "seeds", *numbers]]
    for group in groups:
        about = [group.about["data"], group.about["model"], *group.names(odd), str(len(group.seeds))]
        rows.append(about + [cell(name, group.values.get(name, ())) for name in numbers])
    return rows


def significance(groups: Sequence[Group]) -> list[list[str]]:
    """Sup-tickets, Table 20, as cells: is a method with Sup-tickets another than without, at the 5 % level?

    Two-sample Kolmogorov-Smirnov test of the accuracies; three seeds each are too few for any to be significant. Runs
    of one seed are the same until their plans part, so those with Sup-tickets count that have a seed of their own.
    """

    def shared(group: Group) -> dict[str, Any]:
        """The options that a run with Sup-tickets has in common with the one without."""
        own = {"sup_tickets", *(name for name, row in ROWS.items() if "sup_tickets" in row.needs)}
        return {name: value for name, value in group.about.items() if name not in own}

    odd = odd_settings(groups)
    tested = ["seeds", "without", "with", "p-value", "significant"]
    rows = [["data", "model", "method", "sparsity", "epochs", *odd, *tested]]
    for plain, sup in product(groups, groups):
        own = [run for run in sup.runs if run.seed not in plain.seeds]
        pair = plain.values.get(PLAIN, []), [run.numbers["superposed"] for run in own if "superposed" in run.numbers]
        if pair[0] and "superposed" in sup.values and shared(plain) == shared(sup):
            tested = ["{} and {}".format(*map(len, pair)), *(cell("accuracy", values) for values in pair)]
            p = ks_2samp(*pair).pvalue if all(pair) else None
            tested += ["", "same seeds"] if p is None else [f"{p:.2e}", "yes" if p < 0.05 else "no"]
            rows.append([sup.about["data"], sup.about["model"], *sup.names(odd), *tested])
    return rows


def cell(name: str, values: Sequence[float]) -> str:
    """Mean ± sample standard deviation (n − 1); just the mean of a cost or a single run."""
    digits = next((metric.digits for metric in (*OTHERS.values(), *DIVERSITY.values()) if metric.title == name), 2)
    mean = f"{fmean(values):.{digits}f}" if values else ""
    spread = f" ± {stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{mean}×" if name in COST else mean + spread


def record(group: Group, about: Sequence[str], numbers: Sequence[str]) -> dict[str, Any]:
    """A row as data: of every number its mean and, of several runs, its standard deviation; else None."""
    row = {name: group.about.get(name) for name in about} | {"title": group.title, "n": len(group.seeds)}
    for name in numbers:
        values = group.values.get(name, ())
        row[name], row[f"{name} std"] = fmean(values) if values else None, stdev(values) if len(values) > 1 else None
    return row


def label(group: Group, odd: Sequence[str]) -> str:
    """A group beside its row of the picture, in a few short lines."""
    title, sparsity, epochs, *others = group.names(odd)
    told = [f"{name.replace('_', ' ')} {value}" for name, value in zip(odd, others, strict=True) if value]
    lines = textwrap.wrap(", ".join([f"{sparsity} sparse", f"{epochs} epochs", *told]), 52)
    return "\n".join([title, *lines])


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
        axis.set_yticks(range(len(panel)), [label(group, odd_settings(panel)) for group in panel], fontsize=8)
        axis.set(title=title, ylim=(len(panel) - 0.5, -0.5), xlabel="test accuracy (%)")
        axis.spines[["top", "right"]].set_visible(False)
    figure.legend(handles.values(), handles, loc="outside upper center", ncols=len(handles), frameon=False)
    figure.savefig(path, dpi=150)
    plt.close(figure)


@one_line_errors()
def main(options: ReportOptions) -> None:
    if options.plot and options.plot.suffix[1:] not in PICTURES:
        raise UsageError(f"--plot {options.plot} is no kind of picture: give it a name that ends in .png, .svg or .pdf")
    groups = read_groups(find_summaries(options.runs), options.counting)
    relative = add_costs(groups, options.dense_epochs, options.counting)
    rows = [record(group, [*ABOUT, *odd_settings(groups)], columns(groups)) for group in groups]
    print(markdown(results(groups)) + f"\n\n{relative}")
    if options.significance:
        print("\n" + markdown(significance(groups)))
    if options.layers:
        print("\n" + markdown(layers(groups, odd_settings(groups))))
    try:
        if options.json:
            write_whole(options.json, json.dumps(rows, indent=2) + "\n")
        if options.csv:
            sheet = io.StringIO(newline="")
            csv.writer(sheet).writerows([rows[0], *(row.values() for row in rows)])
            write_whole(options.csv, sheet.getvalue())
        if options.plot:
            draw(options.plot, groups)
    except OSError as error:
        raise UsageError(f"cannot write what was asked for: {error}") from error


if __name__ == "__main__":
    main(OPTIONS)
