"""The table of methods: a row each, and the scores by which connections go and come.

A new method is a row here and at most one scoring function. What is common to all (exact counts, what happens to
weights and optimizer state) is done once, in `topology.py` and `masking.py`.

The command line offers these names, so that torch, which takes a second, is imported by the scores that need it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sparselearning.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Method:
    """One sparse training method.

    Attributes:
        title: the name as the papers print it.
        sparse_init: which connections exist at step 0.
        growth: the score by which dropped connections are replaced at a topology update; None: nothing moves.
        redistribution: the score by which layers share what is grown; None: each grows what it dropped.
        threshold: where DSR's threshold for dropping starts; None: each layer drops its smallest weights.
        regrow: may what was just dropped grow again in the same update?
        prune_rate: p where the user gives none.
        pruning: how the density falls to the final one, `gradual` or `one-shot`; None: it is constant.
        init_density: what it falls from.
    """

    title: str
    sparse_init: str
    growth: str | None
    redistribution: str | None = None
    threshold: float | None = None
    regrow: bool = True
    prune_rate: float = 0.5
    pruning: str | None = None
    init_density: float = 1.0


METHODS = {
    "static": Method("Static", sparse_init="erk", growth=None),
    "snip": Method("SNIP", sparse_init="snip", growth=None),  # Lee et al. 2019
    "set": Method("SET", sparse_init="erk", growth="random"),  # Mocanu et al. 2018
    "dsr": Method("DSR", sparse_init="uniform", growth="random", redistribution="nonzeros", threshold=1e-3,
                  regrow=False, prune_rate=0.08),  # Mostafa & Wang 2019: 0.6 of 7.3 million connections
    "snfs": Method("SNFS", sparse_init="uniform", growth="momentum", redistribution="momentum"),
    "rigl": Method("RigL", sparse_init="erk", growth="gradient"),  # Evci et al. 2020
    "granet": Method("GraNet", sparse_init="erk", growth="gradient", pruning="gradual", init_density=0.5),
    "gmp": Method("GMP", sparse_init="erk", growth=None, pruning="gradual"),  # Zhu & Gupta 2017
    "pf": Method("PF", sparse_init="erk", growth=None, pruning="one-shot"),  # Han et al. 2015
}  # fmt: skip


@dataclass(frozen=True)
class Layer:
    """What a score may read of a layer at a topology update.

    Attributes:
        weight: θ, any shape; `mask` and `gradient` have the same.
        mask: its connections; `active` is their number.
        gradient: ∂L/∂θ of the whole effective batch, dense; None where it takes no part in the loss.
        momentum: of the dense gradient; None unless the method reads it.
        key: (seed, number of the update), equal on all processes.
    """

    name: str
    weight: Tensor
    mask: Tensor
    active: int
    gradient: Tensor | None
    momentum: Tensor | None
    key: tuple[int, int]


Score = Callable[[Layer], "Tensor"]  # non-negative, of the weight's shape; the largest are kept, or grow


def smallest(layer: Layer) -> Tensor:
    """Magnitude: the smallest weights go, as in SET, RigL and GraNet."""
    return layer.weight.abs()


def largest(layer: Layer) -> Tensor:
    """The largest weights go: for tickets of high variance (Sup-tickets, Table 11)."""
    return layer.weight.abs().reciprocal()


DROP: dict[str, Score] = {"smallest": smallest, "largest": largest}


def gradient(layer: Layer) -> Tensor:
    """RigL: |∂L/∂w|; the only score that needs a dense gradient."""
    if layer.gradient is None:
        raise UsageError(f"{layer.name} has no gradient to grow by: zero_grad() came too early")
    return layer.gradient.abs()


def random(layer: Layer) -> Tensor:
    """SET: every free position is equally likely. Drawn on the CPU, so that all devices and processes agree."""
    import torch

    from sparselearning.selection import generator

    seed, update = layer.key
    rng = generator(seed, "growth", update, layer.name)
    numbers = torch.rand(layer.weight.shape, generator=rng, pin_memory=layer.weight.is_cuda)
    return numbers.to(layer.weight.device, non_blocking=True)


def momentum(layer: Layer) -> Tensor:
    """SNFS: |momentum of the dense gradient|; the optimizer's own is zero where growth looks."""
    assert layer.momentum is not None
    return layer.momentum.abs()


GROWTH: dict[str, Score] = {"gradient": gradient, "random": random, "momentum": momentum}


def mean_momentum(layers: Mapping[str, Layer], left: Mapping[str, int]) -> dict[str, float]:
    """SNFS: the mean |momentum| of a layer's connections."""
    import torch

    sums = torch.stack([momentum(layer).mul(layer.mask).sum() for layer in layers.values()]).tolist()
    means = {name: total / layer.active for (name, layer), total in zip(layers.items(), sums, strict=True)}
    # no layer is without a share, so that there is always one to give to, nor has it all in a network that diverges
    return {name: min(max(1e-30, mean), 1e30) for name, mean in means.items()}  # the first of two where one is NaN


def nonzeros(layers: Mapping[str, Layer], left: Mapping[str, int]) -> dict[str, float]:
    """DSR: how many of a layer's weights were left."""
    return {name: float(count) for name, count in left.items()}


REDISTRIBUTION: dict[str, Callable[[Mapping[str, Layer], Mapping[str, int]], dict[str, float]]] = {
    "momentum": mean_momentum,
    "nonzeros": nonzeros,
}
