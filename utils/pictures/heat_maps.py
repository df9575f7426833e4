"""How much tickets differ, each from each: in what they predict, and in their connections."""

from collections.abc import Mapping, Sequence

import torch
from matplotlib.figure import Figure
from torch import Tensor

from utils.command_line.commands.picture import PictureOptions
from utils.pictures.opening import Drawn, names_of, open_tickets, predictions
from utils.reporting.style import plt


def disagreement_matrix(log_probabilities: Tensor) -> Tensor:
    """The fraction of images that two models put into different classes: (M, N, classes) to float64 (M, M)."""
    classes = log_probabilities.argmax(2)
    return (classes[:, None] != classes[None]).double().mean(2)


def overlap_matrix(masks: Sequence[Mapping[str, Tensor]]) -> Tensor:
    """The share of the connections of two networks that both have, 2 |a and b| / (|a| + |b|): float64 (M, M)."""
    flat = torch.stack([torch.cat([mask.flatten() for mask in network.values()]) for network in masks])
    counts = flat.sum(1).double()
    both = torch.stack([(flat & row).sum(1) for row in flat]).double()
    return 2 * both / (counts[:, None] + counts)


def draw(matrix: Tensor, names: Sequence[str], title: str) -> Figure:
    """A cell for each pair, its number in it; dark is far from a ticket itself."""
    size = max(3.6, 0.75 * len(names) + 1.6)
    figure, axis = plt.subplots(figsize=(size + 0.8, size), layout="constrained")
    others = matrix[~torch.eye(len(matrix), dtype=torch.bool)]
    axis.imshow(matrix, cmap="cividis", vmin=float(others.min()) * 0.98, vmax=float(others.max()) * 1.02)
    middle = (float(others.min()) + float(others.max())) / 2
    for i, row in enumerate(matrix.tolist()):
        for j, value in enumerate(row):
            color = "white" if value <= middle else "black"
            axis.text(j, i, f"{value:.3f}", ha="center", va="center", fontsize=10, color=color)
    axis.set_xticks(range(len(names)), names, fontsize=9, rotation=0 if len(names) < 6 else 90)
    axis.set_yticks(range(len(names)), names, fontsize=9)
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    axis.set_title(title, fontsize=10)
    return figure


def disagreement(options: PictureOptions) -> Drawn:
    """FreeTickets, Figures 6 and 7."""
    outputs, labels = predictions(options)
    matrix, names = disagreement_matrix(outputs), names_of(options)
    title = f"fraction of {len(labels):,} test images that two tickets predict differently"
    return Drawn(draw(matrix, names, title), {"names": names, "disagreement": matrix.tolist()})


def overlap(options: PictureOptions) -> Drawn:
    """Of the masks of tickets: what one exploration, another cycle or another seed leaves of the connections."""
    tickets = open_tickets(options)
    read = [tickets.read(path) for path in tickets.paths]
    matrix = overlap_matrix([{name: ticket[name] != 0 for name in tickets.names} for ticket in read])
    names = names_of(options)
    figure = draw(matrix, names, "share of the connections that two tickets have in common")
    return Drawn(figure, {"names": names, "overlap": matrix.tolist()})
