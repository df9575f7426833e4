"""Gradual and one-shot pruning by hand: how many weights are left after every step, and which."""

import copy
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from sparselearning import Masking, UsageError
from tests.exact import bits, check_sparse
from tests.networks import NNZ, NUM_WEIGHTS, layers, network, sgd, train

# ---- gradual ---------------------------------------------------------------------------------------------------------

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


@pytest.mark.parametrize(
    ("method", "start", "end", "counts"),
    [  # of 1,024 weights, at steps 2, 4, 6, 8, 10 and 12
        ("granet", 0, 8, [275, 154, 109, 102, 102, 102]),  # 0.1 + 0.4·(¾³, ½³, ¼³, 0)
        ("granet", 4, 8, [512, 512, 154, 102, 102, 102]),
        ("granet", 0, 5, [191, 106, 102, 102, 102, 102]),  # (1 - 0.4)³, (1 - 0.8)³; done at the first update after 5
        ("gmp", 0, 8, [491, 218, 117, 102, 102, 102]),  # 0.1 + 0.9·(¾³, ½³, ¼³, 0)
    ],
)
def test_the_density_follows_the_cubic_and_ends_exactly(method: str, start: int, end: int, counts: list[int]) -> None:
    model = layers((32, 32))
    optimizer = sgd(model)
    masking = Masking(model, optimizer, method, 0.1, prune_start=start, prune_end=end, update_frequency=2)
    seen = []
    for _ in range(12):
        model[0].weight.grad = torch.randn(32, 32)
        optimizer.step()
        seen.append(masking.nnz)
    assert seen[1::2] == counts
    assert seen[2::2] == counts[:-1]  # nothing moves between updates


def test_gmp_grows_nothing_outside_exploration() -> None:
    model = network()
    optimizer = sgd(model)
    masking = Masking(model, optimizer, "gmp", 0.1, update_frequency=2, prune_end=10)
    for step in range(14):
        before = copy.deepcopy(masking.masks)
        train(model, optimizer, [step])
        assert not any((mask & ~before[name]).any() for name, mask in masking.masks.items())
    assert masking.grown == 0
    masking.explore(0.5)
    train(model, optimizer, [14])
    assert masking.grown > 0


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 60))
def test_gradual_pruning_that_would_not_end_is_refused_with_a_frequency_that_works(
    total: int, end: int, every: int
) -> None:
    def build(every: int) -> None:
        model = layers((8, 8))
        Masking(model, sgd(model), "gmp", 0.5, prune_end=end, total_steps=total, update_frequency=every)

    if any(step >= end for step in range(every, total, every)):
        build(every)
        return
    with pytest.raises(UsageError) as error:
        build(every)
    for frequency in re.findall(r"update_frequency of (-?\d+)", str(error.value)):
        build(int(frequency))


# ---- one-shot --------------------------------------------------------------------------------------------------------


def test_pf_is_dense_until_it_keeps_the_largest_weights_of_all_layers_for_good() -> None:
    model = network()
    optimizer = sgd(model)
    masking = Masking(model, optimizer, "pf", 0.2, prune_end=4, update_frequency=1)
    dense = network()
    plain = sgd(dense)
    for step in range(1, 4):
        train(model, optimizer, [step])
        train(dense, plain, [step])
        check_sparse(masking, NUM_WEIGHTS)
    assert bits(model.state_dict()) == bits(dense.state_dict())  # as if nothing masked it
    train(model, optimizer, [4])
    train(dense, plain, [4])
    magnitudes = torch.cat([dense.get_parameter(name).abs().flatten() for name in masking.masks])
    least = magnitudes.sort(descending=True).values[NNZ - 1]
    for name, mask in masking.masks.items():
        assert torch.equal(mask, dense.get_parameter(name).abs() >= least)
    check_sparse(masking)
    assert (masking.dropped, masking.grown, masking.updates) == (NUM_WEIGHTS - NNZ, 0, 1)
    fixed = bits(masking.masks)
    train(model, optimizer, range(5, 9))
    assert bits(masking.masks) == fixed
