"""A topology, the connections of a network, as one value; and the steps that make a new one: prune, drop, grow.

The steps are pure: they return a new topology, whose counts always belong to its masks, and change nothing.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from sparselearning.selection import k_largest, k_largest_overall

Masks = Mapping[str, Tensor]
Counts = Mapping[str, int]
Scores = Callable[[str], Tensor]  # a layer's, asked for one layer after the other, so that only one is in memory


@dataclass(frozen=True)
class Topology:
    """Which connections exist.

    Attributes:
        masks: {parameter name: bool tensor of the parameter's shape}.
        active: {parameter name: its number of connections}.
    """

    masks: Masks
    active: Counts

    @classmethod
    def of(cls, masks: Masks) -> Self:
        """The topology with these masks, counted; the host waits for the device once."""
        counts = torch.stack([mask.sum() for mask in masks.values()]).tolist()
        return cls(masks, dict(zip(masks, counts, strict=True)))

    @property
    def nnz(self) -> int:
        """Connections of the whole network."""
        return sum(self.active.values())

    def only(self, names: Iterable[str]) -> Self:
        """These layers alone."""
        names = list(names)
        return type(self)({name: self.masks[name] for name in names}, {name: self.active[name] for name in names})

    def with_layers(self, other: "Topology") -> Self:
        """With those layers of another topology in place of its own."""
        return type(self)({**self.masks, **other.masks}, {**self.active, **other.active})

    def free(self) -> dict[str, int]:
        """Positions of each layer without a connection."""
        return {name: mask.numel() - self.active[name] for name, mask in self.masks.items()}


def pruned(topology: Topology, weights: Mapping[str, Tensor], count: int) -> Topology:
    """The `count` connections of largest magnitude of all layers together; each layer keeps its largest."""
    if count >= topology.nnz:
        return topology
    barred = [~mask for mask in topology.masks.values()]
    kept = k_largest_overall([weights[name] for name in topology.masks], count, barred)
    return Topology.of(dict(zip(topology.masks, kept, strict=True)))


def dropped(topology: Topology, scores: Scores, counts: Counts) -> Topology:
    """Ψ of Eq. 1: every layer without the counts[name] of its connections that have the smallest scores."""
    left = {name: topology.active[name] - count for name, count in counts.items()}
    masks = {
        name: k_largest(scores(name), left[name], barred=~mask) if counts[name] else mask
        for name, mask in topology.masks.items()
    }
    return Topology(masks, left)


def dropped_below(topology: Topology, weights: Mapping[str, Tensor], threshold: float) -> Topology:
    """DSR (Mostafa & Wang 2019): without the connections below a magnitude; every layer keeps its largest."""
    masks = {}
    for name, mask in topology.masks.items():
        magnitude = weights[name].abs()
        masks[name] = mask & ((magnitude >= threshold) | k_largest(magnitude, 1, barred=~mask))
    return Topology.of(masks)


def grown(topology: Topology, scores: Scores, counts: Counts, barred: Masks | None = None) -> Topology:
    """Φ of Eq. 2: every layer with counts[name] connections more, at the free positions of largest score.

    Args:
        barred: positions that stay free, by name.
    """
    masks = {}
    for name, mask in topology.masks.items():
        taken = mask if barred is None else mask | barred[name]
        masks[name] = mask | k_largest(scores(name), counts[name], barred=taken) if counts[name] else mask
    return Topology(masks, {name: topology.active[name] + count for name, count in counts.items()})
