"""Runs beside each other: their density over time, and what accuracy costs (FreeTickets, Figure 4)."""

import csv
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from statistics import fmean
from typing import TypedDict

from matplotlib.figure import Figure

from sparselearning.errors import UsageError
from utils.command_line.commands.picture import PictureOptions
from utils.pictures.opening import Drawn, distinctive
from utils.reporting.costs import COST, add_costs
from utils.reporting.groups import Group
from utils.reporting.groups_plot import score_of
from utils.reporting.read import find_summaries, read_groups
from utils.reporting.style import COLORS, MARKERS, bare, plt
from utils.training.metrics import METRICS, SCORE


class Densities(TypedDict):
    """Of a run after each of its epochs."""

    name: str
    epoch: list[int]
    density: list[float]


def read_densities(runs: Sequence[str]) -> list[Densities]:
    """From the metrics.csv of finished runs, or of those in progress. Raises UsageError where it cannot be read."""
    files = [file for run in map(Path, runs) for file in sorted(run.rglob("metrics.csv"))]
    if not files:
        raise UsageError(f"there is no metrics.csv in {' '.join(runs)}: give run folders, or folders above them")
    found: list[Densities] = []
    for file, name in zip(files, distinctive([file.parent for file in files]), strict=True):
        try:
            rows = list(csv.DictReader(file.read_text().splitlines()))
            epochs, densities = [int(row["epoch"]) for row in rows], [float(row["density"]) for row in rows]
        except (OSError, ValueError, KeyError) as error:
            raise UsageError(f"{file} is no metrics.csv of a run: {' '.join(str(error).split())}") from error
        found.append({"name": name.replace("\n", "/"), "epoch": epochs, "density": densities})
    return found


def draw_densities(runs: list[Densities]) -> Figure:
    """A line for each run, on a logarithmic scale; runs of one and the same course share theirs."""
    figure, axis = plt.subplots(figsize=(8, 4), layout="constrained")
    courses: dict[str, list[Densities]] = {}
    for run in runs:
        courses.setdefault(repr((run["epoch"], run["density"])), []).append(run)
    for i, (first, *others) in enumerate(courses.values()):
        style, more = "-" if i < len(COLORS) else "--", f" and {len(others)} more" * bool(others)
        color, label = COLORS[i % len(COLORS)], first["name"] + more
        axis.plot(first["epoch"], first["density"], style, color=color, lw=2, label=label)
    axis.set(yscale="log", xlabel="epoch", ylabel="density (logarithmic)")
    axis.yaxis.set_major_formatter("{x:g}")
    axis.legend(frameon=False, loc="best", fontsize=9)
    bare(axis)
    return figure


def density(options: PictureOptions) -> Drawn:
    runs = read_densities(options.runs)
    return Drawn(draw_densities(runs), runs)


class Point(TypedDict):
    """A row of the report: means over its seeds of the model to use, FLOPs relative to one dense training."""

    method: str
    sparsity: float
    accuracy: list[float]
    flops: float


def costs(groups: Sequence[Group]) -> list[Point]:
    """The groups as points, those of a method by their sparsity."""
    points: list[Point] = []
    for group in groups:
        flops = fmean(group.values[COST[0]])
        points.append({"method": group.title, "sparsity": 1 - group.about.density, "accuracy": score_of(group),
                       "flops": flops})  # fmt: skip
    return sorted(points, key=lambda point: (point["method"], point["sparsity"], point["flops"]))


def draw_costs(points: list[Point], title: str) -> Figure:
    """Accuracy against sparsity, and against the FLOPs of training: a line for each method, a dot for each run."""
    figure, axes = plt.subplots(1, 2, figsize=(9, 4.2), sharey=True, layout="constrained")
    for i, (name, part) in enumerate(groupby(points, lambda point: point["method"])):
        color, marker, members = COLORS[i % len(COLORS)], MARKERS[i % len(MARKERS)], list(part)
        means = [fmean(point["accuracy"]) for point in members]
        for axis, xs in ((axes[0], [100 * p["sparsity"] for p in members]), (axes[1], [p["flops"] for p in members])):
            axis.plot(xs, means, "-", marker=marker, color=color, ms=8, label=name)
            for x, point in zip(xs, members, strict=True):
                axis.plot([x] * len(point["accuracy"]), point["accuracy"], ".", color=color, alpha=0.5, ms=5)
    axes[0].set(xlabel="sparsity (%)", ylabel=f"test {METRICS[SCORE].title} (%)")
    axes[1].set(xlabel="FLOPs of training, of one dense training")
    axes[0].set_title(title, fontsize=10)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    bare(*axes)
    return figure


def accuracy(options: PictureOptions) -> Drawn:
    """Raises UsageError where the runs are of several networks or data sets."""
    groups = read_groups(find_summaries(options.runs))
    networks = {f"{group.about.model} on {group.about.data}" for group in groups}
    if len(networks) > 1:
        raise UsageError(f"--runs are of {' and '.join(sorted(networks))}: take those of one only")
    add_costs(groups, options.dense_epochs, "plain")
    points = costs(groups)
    return Drawn(draw_costs(points, networks.pop()), points)
