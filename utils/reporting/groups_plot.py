"""The picture of the report: a row per group of runs."""

import textwrap
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from statistics import fmean

from matplotlib.backend_bases import FigureCanvasBase
from matplotlib.lines import Line2D

from utils.reporting.groups import NORMAL, PLAIN, Group
from utils.reporting.plots import ACCENT, FAINT, INK, plt
from utils.reporting.results import distinctive_options
from utils.training.metrics import METRICS, SCORE

PICTURES = FigureCanvasBase.get_supported_filetypes()  # endings of names, and what they stand for
MARKS = {  # of models in a row: height in it, marker, size, color
    NORMAL: (-0.25, "o", 5, FAINT), "tickets": (0.0, "o", 5, INK), "superposed": (0.25, "*", 9, ACCENT),
    "ensemble": (0.25, "D", 5, ACCENT), PLAIN: (0.0, "s", 5, INK),
}  # fmt: skip


def _label(group: Group, options: Sequence[str]) -> str:
    """A group beside its row of the picture, in a few short lines."""
    title, sparsity, epochs, *others = group.names(options)
    told = [f"{name.replace('_', ' ')} {value}" for name, value in zip(options, others, strict=True) if value]
    lines = textwrap.wrap(", ".join([f"{sparsity} sparse", f"{epochs} epochs", *told]), 52)
    return "\n".join([title, *lines])


def draw_groups(path: Path, groups: Sequence[Group]) -> None:
    """A panel per network and data set, a row per group: a dot per run, and a stroke at their mean."""
    panels = [(title, list(panel)) for title, panel in groupby(groups, "{0.about.model} on {0.about.data}".format)]
    rows = [len(panel) + 0.5 for _, panel in panels]
    figure, axes = plt.subplots(len(panels), height_ratios=rows, squeeze=False, layout="constrained")
    figure.set_size_inches(8, 0.9 + 0.7 * sum(rows))
    handles: dict[str, Line2D] = {}
    for axis, (title, panel) in zip(axes[:, 0], panels, strict=True):
        for y, group in enumerate(panel):
            pooled = [v for name, values in group.values.items() if name.startswith("ticket ") for v in values]
            for name, (height, marker, ms, color) in MARKS.items():
                if values := pooled if name == "tickets" else group.values.get(name, []):
                    dots = {"ms": ms, "mew": 0, "color": color, "alpha": 0.6}
                    (handles[name],) = axis.plot(values, [y + height] * len(values), marker, **dots)
                    axis.plot(fmean(values), y + height, "|", ms=13, mew=1.5, color=color)
        axis.set_yticks(range(len(panel)), [_label(group, distinctive_options(panel)) for group in panel], fontsize=8)
        axis.set(title=title, ylim=(len(panel) - 0.5, -0.5), xlabel=f"test {METRICS[SCORE].title} (%)")
        axis.spines[["top", "right"]].set_visible(False)
    figure.legend(handles.values(), handles, loc="outside upper center", ncols=len(handles), frameon=False)
    figure.savefig(path, dpi=150)
    plt.close(figure)
