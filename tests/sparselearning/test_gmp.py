"""Gradual magnitude pruning by hand: how many weights are left after every step, and which."""

import pytest
import torch
from torch import nn

from sparselearning import Masking

# two layers of 50 weights: 1, 2, …, 50 and 30.5, 31.5, …, 79.5
LARGEST = {8: 43.0, 1: 50.0}, {37: 43.5, 16: 64.5, 5: 75.5, 4: 76.5}  # {how many are left: the smallest of them}


def prune(steps: int, **options: int) -> tuple[Masking, list[tuple[int, int]]]:
    """GMP of weights that stay as they are, to 5 of 100; how many are left in each layer after every step."""
    model = nn.Sequential(nn.Linear(10, 5, bias=False), nn.Linear(5, 10, bias=False))
    with torch.no_grad():
        model[0].weight.copy_(torch.arange(1.0, 51).view(5, 10))
        model[1].weight.copy_(-torch.arange(30.5, 80).view(10, 5))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    masking, counts = Masking(model, optimizer, "gmp", 0.05, **options), []
    for _ in range(steps):
        model(torch.randn(4, 10)).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        counts.append((masking.active["0.weight"], masking.active["1.weight"]))
        for weight, least in zip((model[0].weight, model[1].weight), LARGEST, strict=True):
            left = weight[weight != 0].abs()
            assert len(left) == 50 or left.min() == least[len(left)]
    return masking, counts


def test_the_smallest_weights_of_both_layers_together_go() -> None:
    """100·(0.05 + 0.95·(1 − t/4)³) are 45, 17, 6 and 5; of the first layer one stays in any case."""
    masking, counts = prune(6, update_frequency=1, prune_end=4)
    assert counts == [(8, 37), (1, 16), (1, 5), (1, 4), (1, 4), (1, 4)]
    assert masking.grown == 0 and masking.nnz == masking.target_nnz == 5


@pytest.mark.parametrize(
    ("every", "end", "counts"),
    [
        (2, 4, [100, 17, 17, 5, 5, 5]),
        (4, 4, [100, 100, 100, 5, 5, 5]),
        (3, 4, [100, 100, 6, 6, 6, 5]),  # with the first topology update from there on
        (1, 1, [5, 5, 5, 5, 5, 5]),
    ],
)
def test_the_final_density_is_reached_at_the_end_of_pruning_and_kept(every: int, end: int, counts: list[int]) -> None:
    _, left = prune(6, update_frequency=every, prune_end=end)
    assert [sum(pair) for pair in left] == counts
