"""DSR drops below a threshold that follows its aim, shares out by what is left, and grows anywhere."""

import math

import pytest
import torch
from torch import Tensor, nn

from sparselearning import Masking
from tests.exact import bits, check_sparse
from tests.networks import layers, random_layers, row, set_masks, sgd


@pytest.mark.parametrize(
    ("threshold", "dropped", "after"),
    [  # 10 connections of sizes 1 to 10, aim 0.4·10 = 4
        (0.5, 0, 1.0), (3.5, 3, 7.0), (4.0, 3, 8.0), (4.5, 4, 4.5), (5.5, 5, 2.75), (99.0, 9, 49.5),
    ],
)  # fmt: skip
def test_the_threshold_of_dsr_doubles_or_halves_where_it_is_off_by_more_than_a_tenth(
    threshold: float, dropped: int, after: float
) -> None:
    layer = row([0.0] * 20, [0.0] * 20)
    masking = Masking(layer, sgd(layer), "dsr", 0.5)
    set_masks(masking, [1] * 10 + [0] * 10)
    layer.weight.data[0, :10] = torch.arange(10, 0, -1)
    masking.threshold = threshold
    masking.update_topology(0.4, "random")
    assert (masking.dropped, masking.grown, masking.threshold) == (dropped, dropped, after)
    assert masking.masks["weight"][0, : 10 - dropped].all()
    assert layer.weight[0, : 10 - dropped].tolist() == list(range(10, dropped, -1))
    check_sparse(masking, 10)


def test_the_tolerance_of_dsr_is_a_tenth_of_the_aim() -> None:
    """Of 100 connections at rate 0.2: 18 to 22 leave the threshold alone."""
    seen = {}
    for below in range(15, 26):
        layer = row([0.0] * 200, [0.0] * 200)
        masking = Masking(layer, sgd(layer), "dsr", 0.5)
        set_masks(masking, [1] * 100 + [0] * 100)
        layer.weight.data[0, :100] = torch.tensor([0.5] * below + [2.0] * (100 - below))
        masking.threshold = 1.0
        masking.update_topology(0.2, "random")
        seen[below] = masking.threshold
    assert seen == {n: 2.0 if n < 18 else 0.5 if n > 22 else 1.0 for n in range(15, 26)}


def test_dsr_shares_out_by_what_is_left_and_every_layer_keeps_its_largest() -> None:
    model = layers((10, 10), (10, 10), (10, 10))
    masking = Masking(model, sgd(model), "dsr", 0.3)
    first = [True] * 30 + [False] * 70
    set_masks(masking, first, first, first)
    sizes = [torch.ones(30), torch.cat((torch.ones(10), torch.full((20,), 0.1))), torch.linspace(0.1, 0.2, 30)]
    for weight, values in zip(model.parameters(), sizes, strict=True):
        weight.data = torch.zeros(100).index_copy(0, torch.arange(30), values).view(10, 10)
    masking.threshold = 0.5
    masking.update_topology(0.5, "random")
    # left: 30, 10 and 1, the largest of the third layer; 49 lost, shared as 30 : 10 : 1, that is 35.85, 11.95, 1.2
    assert list(masking.active.values()) == [30 + 36, 10 + 12, 1 + 1]
    assert masking.masks["2.weight"].flatten()[29]
    assert model[2].weight.flatten()[29].item() == pytest.approx(0.2)
    assert masking.masks["0.weight"].flatten()[:30].all()
    assert masking.threshold == 0.5  # 49 is within a tenth of 45
    check_sparse(masking, 90)


@pytest.mark.parametrize("density", [0.2, 0.45])
def test_dsr_grows_nothing_that_it_has_just_dropped(density: float) -> None:
    model = random_layers()
    masking = Masking(model, sgd(model), "dsr", density)
    masking.threshold = 0.7
    before = {name: mask.clone() for name, mask in masking.masks.items()}
    magnitudes = {name: weight.detach().abs() for name, weight in masking.weights.items()}
    masking.update_topology(0.08, "random")
    largest = {name: (magnitudes[name] * before[name]).max() for name in before}  # stays in any case
    small = {n: before[n] & (magnitudes[n] < 0.7) & (magnitudes[n] < largest[n]) for n in before}
    assert sum(int(mask.sum()) for mask in small.values()) > 10
    assert all(not (masking.masks[name] & small[name]).any() for name in before)
    check_sparse(masking, masking.target_nnz)


def test_dsr_regrows_what_it_dropped_where_there_is_no_other_place() -> None:
    layer = row([0.0] * 20, [0.0] * 20)
    masking = Masking(layer, sgd(layer), "dsr", 0.8)
    set_masks(masking, [1] * 16 + [0] * 4)
    layer.weight.data[0, :16] = torch.arange(16, 0, -1)
    masking.threshold = 8.5  # eight go, four places were free
    masking.update_topology(0.5, "random")
    assert masking.dropped == masking.grown == 8
    check_sparse(masking, 16)


def dense_corner(model: nn.Module) -> dict[str, Tensor]:
    """The first 30 % of each weight, to the integer 0.3·N together."""
    parameters = dict(model.named_parameters())
    total = round(0.3 * sum(weight.numel() for weight in parameters.values()))
    counts = [round(0.3 * weight.numel()) for weight in parameters.values()]
    counts[0] += total - sum(counts)
    return {
        name: (torch.arange(weight.numel()) < count).view(weight.shape)
        for (name, weight), count in zip(parameters.items(), counts, strict=True)
    }


def test_dsr_grows_anywhere_and_not_by_gradient() -> None:
    masks = []
    for seed, gradient in ((0, 1.0), (0, math.nan), (1, 1.0)):
        model = random_layers()
        masking = Masking(model, sgd(model), "dsr", 0.3, seed=seed, sparse_init=dense_corner(model))
        masking.threshold = 0.7
        for weight in model.parameters():
            weight.grad = torch.full_like(weight, gradient)
        masking.update_topology(0.5, masking.growth)
        assert masking.grown > 10
        masks.append(bits(masking.masks))
    assert masks[0] == masks[1] != masks[2]
