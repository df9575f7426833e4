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

    Works on a copy: the model keeps its weights, its gradients and its batch-norm statistics.

    Args:
        model: maps inputs (B, …) to logits (B, classes).
        names: parameters to score.
        batches: pairs of inputs (B, …) and labels (B,) on the model's device; the same on every process.
    """
    scratch = copy.deepcopy(model).train()
    scratch.zero_grad()
    for inputs, labels in batches:
        F.cross_entropy(scratch(inputs), labels, reduction="sum").backward()
    weights = dict(scratch.named_parameters())
    with torch.no_grad():
        return {
            name: torch.zeros_like(w) if w.grad is None else (w * w.grad).abs()
            for name, w in ((name, weights[name]) for name in names)
        }
