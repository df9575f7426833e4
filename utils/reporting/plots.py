"""The pictures of a run."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from sparselearning.phases import Phase
from utils.run_folder.contents import EpochRow, Results

INK, FAINT, ACCENT, SHADE = "#1f2933", "#9aa5b1", "#c2410c", "#fde8d7"


def draw_learning_curve(
    path: Path, history: Sequence[EpochRow], plan: Sequence[Phase], results: Results
) -> None:
    """Accuracy and learning rate over the epochs, the cycles shaded, every ticket and the superposed one marked."""
    steps_per_epoch = history[0]["step"]
    figure, (top, bottom) = plt.subplots(2, 1, figsize=(7, 5), sharex=True, height_ratios=[3, 1], layout="constrained")
    epochs = [row["epoch"] for row in history]
    top.plot(epochs, [row["accuracy"] for row in history], color=FAINT, label="training images")
    if history[0]["valid_accuracy"] is not None:
        top.plot(epochs, [row["valid_accuracy"] for row in history], color=INK, label="validation images")
    cycles = [phase for phase in plan if phase.ticket]
    for axis in (top, bottom):
        for phase in cycles[::2]:
            axis.axvspan(phase.start / steps_per_epoch, phase.end / steps_per_epoch, color=SHADE, lw=0)
    ends = [phase.end / steps_per_epoch for phase in cycles]
    top.plot(ends, [t["accuracy"] for t in results["tickets"]], "o", color=INK, label="tickets, test")
    if "superposed" in results:
        top.plot(ends[-1:], [results["superposed"]["accuracy"]], "*", ms=13, color=ACCENT, label="superposed, test")
    else:
        top.plot(epochs[-1:], [results["final"]["accuracy"]], "o", color=INK, label="final, test")
    top.set_ylabel("accuracy (%)")
    top.legend(frameon=False, loc="lower right")
    steps = range(0, plan[-1].end, max(1, plan[-1].end // 2000))
    rates = [phase.lr(s - phase.start) for s in steps for phase in plan if phase.start <= s < phase.end]
    bottom.semilogy([s / steps_per_epoch for s in steps], rates, color=INK)
    bottom.set(xlabel="epoch", ylabel="learning rate")
    for axis in (top, bottom):
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def draw_sparsity(path: Path, densities: Mapping[str, float], density: float) -> None:
    """The sparsity of every layer, and of the whole network."""
    names = list(densities)
    figure, axis = plt.subplots(figsize=(7, max(2.0, 0.2 * len(names) + 0.8)), layout="constrained")
    axis.barh(range(len(names)), [1 - d for d in densities.values()], color=FAINT)
    axis.axvline(1 - density, color=ACCENT)
    axis.annotate(f"network {1 - density:.3g}", (1 - density, -0.9), color=ACCENT, ha="right", fontsize=8)
    axis.set_yticks(range(len(names)), [name.removesuffix(".weight") for name in names], fontsize=7)
    axis.invert_yaxis()
    axis.set(xlabel="sparsity", xlim=(0, 1))
    axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)
    plt.close(figure)
