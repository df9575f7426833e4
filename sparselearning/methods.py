"""The table of methods: a row each, and the scores by which connections grow.

A new method is a row here and at most one scoring function. What is common to all (exact counts, the drop by
magnitude, what happens to weights and optimizer state) is done once, in `masking.py`.
"""

from collections.abc import Callable
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
        init_density: for methods that prune gradually, the density they start from; None: the density is constant.
    """

    title: str
    sparse_init: str
    growth: str | None
    init_density: float | None = None


METHODS = {
    "static": Method("Static", sparse_init="erk", growth=None),
    "snip": Method("SNIP", sparse_init="snip", growth=None),  # Lee et al. 2019
    "set": Method("SET", sparse_init="erk", growth="random"),  # Mocanu et al. 2018
    "rigl": Method("RigL", sparse_init="erk", growth="gradient"),  # Evci et al. 2020
    "granet": Method("GraNet", sparse_init="erk", growth="gradient", init_density=0.5),  # Liu et al. 2021
    "gmp": Method("GMP", sparse_init="erk", growth=None, init_density=1.0),  # Zhu & Gupta 2017
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
