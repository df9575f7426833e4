"""Layers with few connections, and what their sparse forms are compared with."""

import torch
from torch import Tensor, nn


def masked(layer: nn.Module, density: float = 0.3) -> nn.Module:
    """Connections at random; one output and one input have none."""
    with torch.no_grad():
        layer.weight *= torch.rand_like(layer.weight) < density
        layer.weight[1], layer.weight[:, 2] = 0, 0
    return layer


def assert_equal(outputs: Tensor, expected: Tensor) -> None:
    """But for rounding, and without a gradient."""
    assert outputs.shape == expected.shape and not outputs.requires_grad
    assert (outputs - expected).abs().max() <= 1e-5 * expected.abs().max().clamp(min=1)
