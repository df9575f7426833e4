"""SNIP (Lee et al. 2019): connections are kept by how much the loss depends on them, before training starts."""

import copy
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def connection_sensitivity(
    model: nn.Module, names: Sequence[str], batches: Iterable[tuple[Tensor, Tensor]]
) -> dict[str, Tensor]:
    """|w · ∂L/∂w| of the named weights, L the cross-entropy summed over the batches.

    Works on a copy: the model keeps its weights, gradients and batch-norm statistics, and training its random numbers.

    Args:
        model: maps inputs (B, …) to logits (B, classes).
        names: parameters to score.
        batches: pairs of inputs (B, …) and labels (B,) on the model's device; the same on every process.
    """
    scratch = copy.deepcopy(model).train()
    weights = {name: scratch.get_parameter(name) for name in names}
    devices = {weight.device for weight in weights.values() if weight.is_cuda}
    with torch.random.fork_rng(devices):
        torch.manual_seed(0)  # dropout, the same on every process
        for inputs, labels in batches:
            F.cross_entropy(scratch(inputs), labels, reduction="sum").backward()
    with torch.no_grad():
        return {name: torch.zeros_like(w) if w.grad is None else (w * w.grad).abs() for name, w in weights.items()}
