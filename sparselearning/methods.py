"""The table of methods: a row each, and the scores by which connections grow.

A new method is a row here and at most one scoring function. What is common to all (exact counts, the drop by
magnitude, what happens to weights and optimizer state) is done once, in `masking.py`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sparselearning.errors import UsageError
from sparselearning.selection import generator

if TYPE_CHECKING:
    from sparselearning.masking import Masking


@dataclass(frozen=True)
class Method:
    """One sparse training method.

    Attributes:
        title: the name as the papers print it.
        sparse_init: which connections exist at step 0.
        growth: the score by which dropped connections are replaced at a topology update; None: nothing moves.
        redistribution: the score by which layers share what is grown; None: each grows what it dropped.
        threshold: where DSR's threshold for dropping starts; None: each layer drops its smallest weights.
        pruning: how the density falls to the final one, `gradual` or `one-shot`; None: it is constant.
        init_density: what it falls from.
    """

    title: str
    sparse_init: str
    growth: str | None
    redistribution: str | None = None
    threshold: float | None = None
    pruning: str | None = None
    init_density: float = 1.0


METHODS = {
    "static": Method("Static", sparse_init="erk", growth=None),
    "snip": Method("SNIP", sparse_init="snip", growth=None),  # Lee et al. 2019
    "set": Method("SET", sparse_init="erk", growth="random"),  # Mocanu et al. 2018
    "dsr": Method("DSR", sparse_init="uniform", growth="random", redistribution="nonzeros", threshold=1e-3),
    "snfs": Method("SNFS", sparse_init="uniform", growth="momentum", redistribution="momentum"),
    "rigl": Method("RigL", sparse_init="erk", growth="gradient"),  # Evci et al. 2020
    "granet": Method("GraNet", sparse_init="erk", growth="gradient", pruning="gradual", init_density=0.5),
    "gmp": Method("GMP", sparse_init="erk", growth=None, pruning="gradual"),  # Zhu & Gupta 2017
    "pf": Method("PF", sparse_init="erk", growth=None, pruning="one-shot"),  # Han et al. 2015
}


def gradient(masking: "Masking", name: str, weight: Tensor) -> Tensor:
    """RigL: |∂L/∂w| of the whole effective batch; the only score that needs a dense gradient."""
    if weight.grad is None:
        raise UsageError(
            f"{name} has no gradient to grow by: it took no part in the loss, or zero_grad() came too early"
        )
    return weight.grad.abs()


def random(masking: "Masking", name: str, weight: Tensor) -> Tensor:
    """SET: every free position is equally likely. Drawn on the CPU, so that all devices and processes agree."""
    rng = generator(masking.seed, "growth", masking.updates, name)
    return torch.rand(weight.shape, generator=rng).to(weight.device)


def momentum(masking: "Masking", name: str, weight: Tensor) -> Tensor:
    """SNFS: |momentum of the dense gradient|; the optimizer's own is zero where growth looks."""
    return masking.dense_momentum[name].abs()


GROWTH: dict[str, Callable[["Masking", str, Tensor], Tensor]] = {
    "gradient": gradient,
    "random": random,
    "momentum": momentum,
}


def mean_momentum(masking: "Masking", left: Mapping[str, int]) -> dict[str, float]:
    """SNFS: the mean |momentum| of a layer's active weights."""
    sums = [masking.dense_momentum[name].abs().mul(mask).sum() for name, mask in masking.masks.items()]
    means = torch.stack(sums).double() / torch.tensor(list(masking.active.values())).to(sums[0].device)
    # no layer is without a share, so that there is always one to give to, nor has it all in a network that diverges
    return dict(zip(masking.masks, means.nan_to_num().clamp(1e-30, 1e30).tolist(), strict=True))


def nonzeros(masking: "Masking", left: Mapping[str, int]) -> dict[str, float]:
    """DSR: how many of a layer's weights were left."""
    return {name: float(count) for name, count in left.items()}


REDISTRIBUTION: dict[str, Callable[["Masking", Mapping[str, int]], dict[str, float]]] = {
    "momentum": mean_momentum,
    "nonzeros": nonzeros,
}
