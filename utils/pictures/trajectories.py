"""Where training went in the space of predictions, in two dimensions (FreeTickets, section 5.2, Figure 3)."""

from itertools import groupby
from typing import NamedTuple

import torch
from matplotlib.figure import Figure
from torch import Tensor

from utils.command_line.commands.picture import PictureOptions
from utils.pictures.opening import Drawn, distinctive, predictions, run_folder
from utils.reporting.style import COLORS, MARKERS, bare, plt
from utils.run_folder.headers import parse_header


class Stretch(NamedTuple):
    """The networks of one phase of one run, in their order: x and y of each."""

    name: str
    places: list[tuple[float, float]]


def project(probabilities: Tensor) -> list[tuple[float, float]]:
    """t-SNE of what networks predict: of (networks, N, classes) the place of each, always the same for the same."""
    from sklearn.manifold import TSNE  # which takes a second that other pictures need not wait for

    few = min(30.0, (len(probabilities) - 1) / 3)
    places = TSNE(perplexity=few, init="pca", random_state=0).fit_transform(probabilities.flatten(1).float().numpy())
    return [(float(x), float(y)) for x, y in places]


def stretches(options: PictureOptions, places: list[tuple[float, float]]) -> list[Stretch]:
    """The networks by run and phase, as the tickets' folders and headers tell them."""
    runs = [*map(run_folder, options.tickets)]
    called = dict(zip(runs, distinctive(runs), strict=True)) if len(set(runs)) > 1 else dict.fromkeys(runs, "")
    phases = [parse_header(path).phase or "" for path in options.tickets]
    keys = [f"{called[run]} {phase}".strip() for run, phase in zip(runs, phases, strict=True)]
    rows = zip(keys, places, strict=True)
    return [Stretch(name, [place for _, place in part]) for name, part in groupby(rows, lambda row: row[0])]


def draw(parts: list[Stretch]) -> Figure:
    """A line for each stretch, its end marked by a larger point."""
    figure, axis = plt.subplots(figsize=(7, 5.6), layout="constrained")
    for i, part in enumerate(parts):
        color, marker = COLORS[i % len(COLORS)], MARKERS[i % len(MARKERS)]
        xs, ys = zip(*part.places, strict=True)
        axis.plot(xs, ys, "-", marker=marker, ms=4, lw=1.2, color=color, alpha=0.8, label=part.name)
        axis.plot(xs[-1:], ys[-1:], marker, ms=11, color=color, mec="white")
    axis.set(xlabel="t-SNE of the predictions", xticks=[], yticks=[])
    axis.set_title("each point is a network; the large one is where its phase ended", fontsize=10)
    axis.legend(frameon=False, loc="best", fontsize=9)
    bare(axis)
    return figure


def picture(options: PictureOptions) -> Drawn:
    log_probabilities, _ = predictions(options)
    parts = stretches(options, project(torch.exp(log_probabilities)))
    return Drawn(draw(parts), [part._asdict() for part in parts])
