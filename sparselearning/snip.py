"""SNIP (Lee et al. 2019): connections are kept by how much the loss depends on them, before training starts."""

import copy
import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sparselearning.errors import UsageError


def connection_sensitivity(
    model: nn.Module, names: Sequence[str], batches: Iterable[tuple[Tensor, Tensor]]
) -> dict[str, Tensor]:
    """|w · ∂L/∂w| of the named weights, L the cross-entropy summed over the batches.

    Works on a copy: the model keeps its weights, gradients and batch-norm statistics, and training its random numbers.

    Args:
        model: maps inputs (B, …) to logits (B, classes).
        names: parameters to score.
        batches: pairs of inputs (B, …) and labels (B,) on the model's device; the same on every process.

    Raises:
        UsageError: the model and the loss cannot read a batch, or all batches together say nothing.
    """
    scratch = copy.deepcopy(model).train()
    weights = {name: scratch.get_parameter(name) for name in names}
    devices = {weight.device for weight in weights.values() if weight.is_cuda}
    with torch.random.fork_rng(devices):
        torch.manual_seed(0)  # dropout, the same on every process
        try:
            for inputs, labels in batches:
                torch.autograd.backward(F.cross_entropy(scratch(inputs), labels, reduction="sum"))
        except (AttributeError, IndexError, NotImplementedError, RuntimeError, TypeError, ValueError) as error:
            raise UsageError(
                f"snip_batches must be a list of pairs (inputs, labels) on the model's device, which the model and "
                f"cross-entropy take as they are: {' '.join(str(error).split())[:150]}"
            ) from error
    with torch.no_grad():
        scores = {name: torch.zeros_like(w) if w.grad is None else (w * w.grad).abs() for name, w in weights.items()}
        total = sum(float(score.float().sum()) for score in scores.values())
    if not 0 < total < math.inf:
        raise UsageError(
            f"snip_batches give all connections together a score of {total:g}: they are empty, an iterator that is "
            f"exhausted, or hold what is not finite"
        )
    return scores
