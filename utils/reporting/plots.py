"""The pictures of a run: how its accuracy grew, and where its connections are."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter, FuncFormatter

from sparselearning.phases import Phase
from utils.reporting.style import ACCENT, COLORS, FAINT, INK, SHADE, bare, plt, save
from utils.run_folder.contents import EpochRow, Results
from utils.training.metrics import METRICS, SCORE

NUMBERED = 6  # as many tickets as there is room for numbers beside


def draw_learning_curve(path: Path, history: Sequence[EpochRow], plan: Sequence[Phase], results: Results) -> None:
    """The picture of `learning_curve` as a file."""
    save(learning_curve(history, plan, results), path)


def learning_curve(history: Sequence[EpochRow], plan: Sequence[Phase], results: Results) -> Figure:
    """Accuracy and learning rate over the epochs; where there are tickets, their part of the run again on the right.

    There the scale is that of the differences between tickets, and that of the learning rate is linear, in which the
    cycles are the triangles of Eq. 3.
    """
    epoch, tickets = history[0]["step"], [phase for phase in plan if phase.ticket]
    columns = 2 if tickets else 1
    figure, axes = plt.subplots(2, columns, figsize=(5.2 * columns, 5), sharex="col", height_ratios=[3, 1],
                                squeeze=False, layout="constrained")  # fmt: skip
    _whole_run(axes[0, 0], history, results, after=not tickets)
    _learning_rate(axes[1, 0], plan, epoch)
    axes[1, 0].set(yscale="log", xlabel="epoch", ylabel="learning rate")
    if tickets:
        start, end = tickets[0].start / epoch, plan[-1].end / epoch
        _tickets(axes[0, 1], [phase.end / epoch for phase in tickets], start, results)
        _learning_rate(axes[1, 1], plan, epoch)
        rates = [tickets[0].lr(step) for step in range(tickets[0].end - tickets[0].start)]
        axes[1, 1].set(xlim=(start - 0.08 * (end - start), end + 0.25 * (end - start)), xlabel="epoch",
                       ylim=(0, 1.15 * max(rates)))  # fmt: skip
        for axis in axes.flat:
            for phase in tickets[::2]:
                axis.axvspan(phase.start / epoch, phase.end / epoch, color=SHADE, lw=0, zorder=0)
            if start:
                axis.axvline(start, color=FAINT, lw=1, ls=":")
    bare(*axes.flat)
    return figure


def _whole_run(axis: Axes, history: Sequence[EpochRow], results: Results, after: bool) -> None:
    """Training and validation; `after`: and the test of the model at the end."""
    epochs = [row["epoch"] for row in history]
    axis.plot(epochs, [row["accuracy"] for row in history], color=FAINT, label="training images")
    valid = [accuracy for row in history if (accuracy := row["valid_accuracy"]) is not None]
    if valid:
        axis.plot(epochs, valid, color=COLORS[0], label="validation images")
    if after:
        _mark(axis, epochs[-1], results["final"][SCORE], "o", INK, "test images", below=True)
    axis.set(ylabel="accuracy (%)", title="the whole run" if not after else "")
    axis.legend(frameon=False, loc="lower right")


def _tickets(axis: Axes, ends: Sequence[float], start: float, results: Results) -> None:
    """The test accuracy of every ticket, of what was before them, and of what was made of them."""
    before, numbers = results.get("normal") or results.get("explore"), len(ends) <= NUMBERED
    if before is not None:
        _mark(axis, start, before[SCORE], "s", FAINT, "end of the normal phase", number=numbers)
    for end, ticket in zip(ends, results["tickets"], strict=True):
        _mark(axis, end, ticket[SCORE], "o", INK, "tickets", number=numbers)
    room = 0.08 * (ends[-1] - start)  # so that nothing hides the last ticket
    if "superposed" in results:
        _mark(axis, ends[-1] + room, results["superposed"][SCORE], "*", ACCENT, "superposed", below=True)
        axis.axhline(results["superposed"][SCORE], color=ACCENT, lw=0.8, ls="--", zorder=1)
    if "ensemble" in results:
        _mark(axis, ends[-1] + 2 * room, results["ensemble"][SCORE], "D", COLORS[0], "their ensemble")
    axis.yaxis.set_major_formatter(FormatStrFormatter("%.1f"))
    axis.margins(y=0.12)
    axis.set(title="the tickets, test images")
    handles, labels = axis.get_legend_handles_labels()
    unique = dict(zip(labels, handles, strict=True))
    axis.legend(unique.values(), unique, frameon=False, loc="best", fontsize=9)


def _mark(axis: Axes, x: float, y: float, marker: str, color: str, label: str, *, number: bool = True,
          below: bool = False) -> None:  # fmt: skip
    """A point, and its number above or below it."""
    axis.plot([x], [y], marker, ms=14 if marker == "*" else 7, color=color, label=label, ls="none", zorder=3)
    if number:
        text, place = f"{y:.{METRICS[SCORE].digits}f}", (0, -18 if below else 9)
        axis.annotate(text, (x, y), place, textcoords="offset points", ha="center", fontsize=9, color=INK)


def _learning_rate(axis: Axes, plan: Sequence[Phase], epoch: int) -> None:
    """At the first and the last step of every phase, and often between them."""
    steps: list[float] = []
    rates: list[float] = []
    for phase in plan:
        length = phase.end - phase.start
        inside = sorted({*range(0, length, max(1, length // 1000)), length // 2, length - 1})
        steps += [(phase.start + step) / epoch for step in inside]
        rates += [phase.lr(step) for step in inside]
    axis.plot(steps, rates, color=INK)


def draw_sparsity(path: Path, nnz: Mapping[str, int], sizes: Mapping[str, int]) -> None:
    """The picture of `sparsity` as a file."""
    save(sparsity(nnz, sizes), path)


def sparsity(nnz: Mapping[str, int], sizes: Mapping[str, int]) -> Figure:
    """The density of every layer on a logarithmic scale, its connections and weights, and the whole network's.

    Args:
        nnz: connections of each masked layer, in the order of the network.
        sizes: all weights of each.
    """
    names = list(nnz)
    densities = [nnz[name] / sizes[name] for name in names]
    network = sum(nnz.values()) / sum(sizes[name] for name in names)
    low = 10 ** math.floor(math.log10(min(density for density in densities if density) * 0.999))
    figure, axis = plt.subplots(figsize=(8, max(2.2, 0.24 * len(names) + 1.0)), layout="constrained")
    axis.barh(range(len(names)), densities, color=COLORS[0], alpha=0.75, height=0.72)
    axis.axvline(network, color=ACCENT)
    axis.annotate(f"network {100 * network:.3g} %", (network, 1), (4, 3), xycoords=("data", "axes fraction"),
                  textcoords="offset points", color=ACCENT, fontsize=9)  # fmt: skip
    axis.set_yticks(range(len(names)), [name.removesuffix(".weight") for name in names], fontsize=8)
    axis.set(xlabel="density (logarithmic)", xscale="log", xlim=(low, 1), ylim=(len(names) - 0.4, -0.6))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda density, _: f"{100 * density:g} %"))
    counts = axis.twinx()
    numbers = zip(densities, nnz.values(), (sizes[name] for name in names), strict=True)
    texts = [f"{100 * density:>6.3g} %{count:>12,} of {size:>10,}" for density, count, size in numbers]
    counts.set_yticks(range(len(names)), texts, fontsize=8, family="monospace")
    counts.tick_params(length=0)
    counts.set(ylim=axis.get_ylim())
    bare(axis, counts)
    return figure
