"""Tickets: three of four weights, by hand, with the averages that superpose them; and a sparse network in tensors."""

import pytest
import torch
from torch import Tensor

from sparselearning.averages import AVERAGES

every_method = pytest.mark.parametrize("method", AVERAGES)


def ticket(weights: list[float], bias: float, counter: int) -> dict[str, Tensor]:
    return {"w": torch.tensor(weights).float(), "b": torch.tensor([bias]).float(), "n": torch.tensor(counter)}


# connection 0 is in all three tickets, the others in one each
TICKETS = [ticket([3, 2, 0, 0], 1, 10), ticket([3, 0, -9, 0], 4, 20), ticket([6, 0, 0, 5], 10, 30)]


def sparse(*shape: int, density: float, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    weight = torch.randn(shape, generator=rng, dtype=torch.float64).to(dtype)
    return weight.masked_fill(torch.rand(shape, generator=rng) >= density, 0)


def sparse_network(density: float = 0.1) -> dict[str, Tensor]:
    """Sparse and dense weights, of one precision and another, beside what is no weight."""
    return {
        "conv.weight": sparse(32, 16, 3, 3, density=density),
        "conv.bias": torch.zeros(32),
        "norm.running_var": torch.ones(32),
        "norm.num_batches_tracked": torch.tensor(7),
        "dense.weight": sparse(10, 32, density=1.0),
        "double.weight": sparse(20, 20, density=density, dtype=torch.float64),
        "counts": torch.zeros(9, 9, dtype=torch.int64),
    }
