"""The picture of the report: a row per group of runs, the rows of a method together."""

import textwrap
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from sparselearning.methods import METHODS
from utils.command_line.rows import shown
from utils.reporting.groups import NORMAL, PLAIN, Group
from utils.reporting.results import distinctive_options
from utils.reporting.style import ACCENT, COLORS, FAINT, INK, bare, plt, save
from utils.training.metrics import METRICS, SCORE

MARKS = {  # of models in a row: height in it, marker, size, color
    NORMAL: (-0.25, "o", 5, FAINT), "tickets": (0.0, "o", 5, INK), "superposed": (0.25, "*", 9, ACCENT),
    "ensemble": (0.25, "D", 5, COLORS[0]), PLAIN: (0.0, "s", 5, INK),
}  # fmt: skip


ALONE = "by itself"  # a method without tickets, beside itself with them


class Line(NamedTuple):
    """A line of a panel: the name of a method, a row, or both where a method has one row that needs no label.

    Attributes:
        y: its height, counted from above.
    """

    y: float
    text: str
    group: Group | None = None
    heading: bool = False


def draw_groups(path: Path, groups: Sequence[Group]) -> None:
    """The picture of `panels` as a file."""
    save(panels(groups), path)


def panels(groups: Sequence[Group]) -> Figure:
    """A panel per network and data set, a row per group: a dot per run, and a stroke at their mean."""
    parts = [[*part] for _, part in groupby(groups, lambda group: (group.about.data, group.about.model))]
    lines = [arranged(part) for part in parts]
    heights = [panel[-1].y + 1.1 for panel in lines]
    figure, axes = plt.subplots(len(parts), height_ratios=heights, squeeze=False, layout="constrained")
    figure.set_size_inches(8, 1.1 + 0.42 * sum(heights))
    handles: dict[str, Line2D] = {}
    for axis, part, panel in zip(axes[:, 0], parts, lines, strict=True):
        for line in panel:
            if line.group is not None:
                handles |= _draw_row(axis, line.y, line.group)
        axis.set_yticks([line.y for line in panel], [line.text for line in panel], fontsize=9)
        for line, label in zip(panel, axis.get_yticklabels(), strict=True):
            label.set_fontweight("bold" if line.heading else "normal")
        axis.tick_params(axis="y", length=0)
        axis.grid(axis="x", color=FAINT, alpha=0.3)
        axis.set(title=title(part), ylim=(panel[-1].y + 0.6, -0.6), xlabel=f"test {METRICS[SCORE].title} (%)")
    figure.legend(handles.values(), handles, loc="outside upper center", ncols=len(handles), frameon=False)
    bare(*axes[:, 0])
    return figure


def _draw_row(axis: Axes, y: float, group: Group) -> dict[str, Line2D]:
    """Returns {kind of model: a mark of it}, for the legend."""
    pooled = [v for name, values in group.values.items() if name.startswith("ticket ") for v in values]
    drawn = {}
    for name, (height, marker, ms, color) in MARKS.items():
        if values := pooled if name == "tickets" else group.values.get(name, []):
            (drawn[name],) = axis.plot(values, [y + height] * len(values), marker, ms=ms, mew=0, color=color, alpha=0.6)
            axis.plot(fmean(values), y + height, "|", ms=11, mew=2, color=color)
    return drawn


# ---- which rows, and what they are called --------------------------------------------------------------------------


def arranged(groups: Sequence[Group]) -> list[Line]:
    """The lines of a panel: methods in the order of the papers, under each its groups, the sparse ones below.

    Groups of one sparsity and length are sorted by the mean of the model to use, the best one first.
    """
    labels, lines, y = short_labels(groups), [], 0.0
    order = sorted(range(len(groups)), key=lambda i: (*_place(groups[i]), -fmean(score_of(groups[i]))))
    for name, rows in groupby(order, lambda i: method(groups[i])):
        first, *others = rows
        if others or labels[first]:
            lines.append(Line(y, name, heading=True))
            name, y = "", y + 1
        for i in (first, *others):
            y += 0.22 * labels[i].count("\n")
            lines.append(Line(y, name or labels[i] or ALONE, groups[i], heading=bool(name)))
            y += 1 + 0.22 * labels[i].count("\n")
    return lines


def method(group: Group) -> str:
    """The name of what moves the connections."""
    name = group.about.method
    return METHODS[name].title if name in METHODS else str(name).capitalize()


def _place(group: Group) -> tuple[int, str, float, int]:
    name = group.about.method
    return list(METHODS).index(name) if name in METHODS else -1, name, -group.about.density, group.about.epochs


def score_of(group: Group) -> list[float]:
    """Of the model to use, that of each run."""
    values = group.values
    return values.get("superposed") or values.get("ensemble") or values[PLAIN]


def title(groups: Sequence[Group]) -> str:
    """Of a panel: network, data set, and the width, the sparsity and the length that all its (sparse) runs share."""
    about, (widths, densities, epochs) = groups[0].about, _values(groups)
    told = [f"{about.model} on {about.data}"]
    told += [f"width {about.width:g}"] if widths == {about.width} != {1.0} else []
    told += [f"{100 * (1 - min(densities)):.4g} % sparse"] if len(densities) == 1 else []
    return ", ".join(told + ([f"{about.epochs} epochs"] if len(epochs) == 1 else []))


def _values(groups: Sequence[Group]) -> tuple[set[float], set[float], set[int]]:
    """The widths, the densities of sparse runs and the lengths that there are."""
    about = [group.about for group in groups]
    return {a.width for a in about}, {a.density for a in about} - {1.0}, {a.epochs for a in about}


def short_labels(groups: Sequence[Group]) -> list[str]:
    """What tells each group from the others of its method: the regime, and as few options as are enough for that."""
    options = enough_options(groups)
    widths, densities, epochs = _values(groups)
    labels = []
    for group in groups:
        regime = group.title.removeprefix(method(group))
        if len(widths) == 1:
            regime = regime.removeprefix(f", width {group.about.width:g}")
        told = [regime] if (regime := regime.removeprefix(",").strip()) else []
        if len(densities) > 1 and group.about.density < 1:
            told.append(f"{100 * (1 - group.about.density):.4g} %")
        told += [f"{group.about.epochs} epochs"] if len(epochs) > 1 else []
        others = {name: shown(group.about.others[name]) for name in options if name in group.about.others}
        told += [f"{name.replace('_', ' ')} {value}" for name, value in others.items()]
        labels.append("\n".join(textwrap.wrap(", ".join(told), 40)))
    return labels


def enough_options(groups: Sequence[Group]) -> list[str]:
    """Of the options that tell groups of one kind apart, as few as still do; those with the longest values go first."""
    options = distinctive_options(groups)

    def telling(names: Sequence[str]) -> int:
        return len({repr([group.kind(), *(group.about.others.get(name) for name in names)]) for group in groups})

    def length(name: str) -> int:
        return max(len(shown(group.about.others.get(name, ""))) for group in groups)

    whole = telling(options)
    for name in sorted(options, key=length, reverse=True):
        rest = [other for other in options if other != name]
        options = rest if telling(rest) == whole else options
    return options
