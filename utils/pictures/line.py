"""The loss along the straight lines from one ticket to the next: a basin that both lie in, or a wall between them."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TypedDict

import torch
from matplotlib.figure import Figure
from tqdm import tqdm

from sparselearning.superposition import Ticket
from utils.command_line.commands.picture import PictureOptions
from utils.pictures.opening import Drawn, names_of, open_images, open_tickets
from utils.reporting.style import ACCENT, FAINT, INK, bare, plt
from utils.run_folder.contents import Numbers
from utils.training.metrics import METRICS, SCORE

# of batch norm's statistics: between those of the two tickets, or computed anew at each point
OWN, NEW = "batch norm averaged too", "batch norm recomputed"


class Way(TypedDict):
    """What is seen on the way through the tickets: 0 is the first of them, 1 the second, and between them are points.

    Attributes:
        names: of the tickets.
        train, test: how many images batch norm was recomputed on, and the metrics are of.
        places: of the points, 0 ... len(names) - 1.
        metrics: at each of them, of both OWN and NEW.
    """

    names: list[str]
    train: int
    test: int
    places: list[float]
    metrics: dict[str, list[Numbers]]


def between(a: Ticket, b: Ticket, part: float) -> Ticket:
    """(1 - part) · a + part · b, of batch norm's statistics too; what counts batches stays that of a.

    Between sparse networks it has the connections of both, for nothing is pruned.
    """
    return {name: a[name].lerp(b[name], part) if a[name].is_floating_point() else a[name] for name in a}


def points(tickets: Sequence[Ticket], each: int) -> Iterator[tuple[float, Ticket]]:
    """(place, network): `each` points of every line, those of its two ends among them."""
    yield 0.0, tickets[0]
    for i, (a, b) in enumerate(pairwise(tickets)):
        for part in torch.linspace(0, 1, each, dtype=torch.float64)[1:].tolist():
            yield i + part, between(a, b, part)


def walk(options: PictureOptions) -> Way:
    """Evaluate the networks on the way."""
    tickets = open_tickets(options)
    judge, read = open_images(options, tickets), [tickets.read(path) for path in tickets.paths]
    way: Way = {"names": names_of(options), "train": len(judge.order), "test": len(judge.test), "places": [],
                "metrics": {OWN: [], NEW: []}}  # fmt: skip
    total = 1 + (len(read) - 1) * (options.points - 1)
    for place, network in tqdm(points(read, options.points), "points", total, leave=False, disable=None):
        way["places"].append(place)
        way["metrics"][OWN].append(judge.metrics(network, judge.test))
        way["metrics"][NEW].append(judge.metrics(judge.recompute(network), judge.test))
    return way


def draw(way: Way) -> Figure:
    """Loss and accuracy over the way, a mark at each ticket."""
    figure, axes = plt.subplots(2, 1, figsize=(8, 5.6), sharex=True, layout="constrained")
    ends = range(len(way["names"]))
    for axis, name in zip(axes, ("nll", SCORE), strict=True):
        for kind, color, style in ((OWN, FAINT, "--"), (NEW, INK, "-")):
            values = [numbers[name] for numbers in way["metrics"][kind]]
            axis.plot(way["places"], values, style, color=color, lw=2, label=kind)
            marked = [value for place, value in zip(way["places"], values, strict=True) if place == round(place)]
            axis.plot(ends, marked, "o", ms=7, color=ACCENT if kind == NEW else color)
        for end in ends:
            axis.axvline(end, color=FAINT, lw=0.5, zorder=0)
        unit = METRICS[name].unit.strip()
        axis.set_ylabel(f"{METRICS[name].title}, test" + f" ({unit})" * bool(unit))
    images = f"{way['test']:,} test images, batch norm on {way['train']:,} training images"
    axes[0].set_title(f"on the straight lines between tickets ({images})", fontsize=10)
    axes[-1].set_xticks(ends, way["names"])
    axes[0].legend(frameon=False, loc="upper left")
    bare(*axes)
    return figure


def picture(options: PictureOptions) -> Drawn:
    way = walk(options)
    return Drawn(draw(way), way)
