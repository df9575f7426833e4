"""Reliability diagrams: how often predictions of a confidence are right (Guo et al. 2017, On calibration, Figure 1)."""

from typing import TypedDict

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from models.members import ensemble
from utils.command_line.commands.picture import PictureOptions
from utils.pictures.opening import Drawn, names_of, predictions
from utils.reporting.style import COLORS, INK, bare, plt
from utils.training.metrics import ECE_BINS, METRICS, SCORE, bins_of, confidence_gap, per_sample, summarize

ROW = 4  # diagrams side by side


class Diagram(TypedDict):
    """Of one model. In each of the bins of ECE, by rising confidence:

    Attributes:
        share: of the images.
        confidence, accuracy: means over them, 0 where there are none.
        metrics: of all images.
    """

    name: str
    share: list[float]
    confidence: list[float]
    accuracy: list[float]
    metrics: dict[str, float]


def diagram(name: str, log_probabilities: Tensor, labels: Tensor) -> Diagram:
    """From log-probabilities, float64 (N, classes), and labels, int64 (N,)."""
    gaps = confidence_gap(log_probabilities, labels)
    bins, zeros = bins_of(gaps[0]), torch.zeros(ECE_BINS, dtype=torch.float64)
    counts = zeros.index_add(0, bins, torch.ones_like(gaps[0]))
    confidence, accuracy = (zeros.index_add(0, bins, row) / counts.clamp(min=1) for row in gaps)
    return {"name": name, "share": (counts / len(labels)).tolist(), "confidence": confidence.tolist(),
            "accuracy": accuracy.tolist(), "metrics": summarize(per_sample(log_probabilities, labels))}  # fmt: skip


def draw(diagrams: list[Diagram]) -> Figure:
    """A diagram for each model: bars below the diagonal are overconfident, pale ones stand for few images."""
    columns = min(ROW, len(diagrams))
    rows = -(-len(diagrams) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(2.9 * columns + 0.4, 3.1 * rows + 0.4), sharex=True,
                                sharey=True, squeeze=False, layout="constrained")  # fmt: skip
    for axis in axes.flat[len(diagrams) :]:
        axis.set_visible(False)
    for axis, model in zip(axes.flat, diagrams, strict=False):
        _draw_one(axis, model)
    figure.supxlabel("confidence (pale: few images)", fontsize=10)
    figure.supylabel("accuracy", fontsize=10)
    return figure


def _draw_one(axis: Axes, model: Diagram) -> None:
    width = 1 / ECE_BINS
    left = [i * width for i in range(ECE_BINS)]
    strength = [0.15 + 0.85 * min(1, ECE_BINS * share) for share in model["share"]]
    colors = [(COLORS[0], alpha) for alpha in strength]
    axis.bar(left, model["accuracy"], width * 0.9, align="edge", color=colors, lw=0)
    axis.plot([0, 1], [0, 1], "--", color=INK, lw=1)
    told = [f"{METRICS[name].title} {METRICS[name].text(model['metrics'][name])}" for name in (SCORE, "ece")]
    axis.set_title(f"{model['name']}\n{', '.join(told)}", fontsize=9)
    axis.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
    bare(axis)


def picture(options: PictureOptions) -> Drawn:
    """Of every ticket, and of several their ensemble."""
    outputs, labels = predictions(options)
    models = dict(zip(names_of(options), outputs, strict=True))
    if len(outputs) > 1:
        models["ensemble"] = ensemble(outputs)
    diagrams = [diagram(name, output, labels) for name, output in models.items()]
    return Drawn(draw(diagrams), diagrams)
