"""Layer by layer counts add up to the integer and are the water level that bisection finds."""

import math
import re
from collections.abc import Callable

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torchvision.models import resnet50

from sparselearning.distributions import DISTRIBUTIONS, Shapes, apportion, erk, round_to_total, total_count, uniform
from sparselearning.errors import UsageError
from sparselearning.layers import maskable_weights

RAW: dict[str, Callable[[tuple[int, ...]], float]] = {
    "erk": lambda shape: sum(shape) / math.prod(shape),
    "er": lambda shape: (shape[0] + shape[1]) / (shape[0] * shape[1]),
    "uniform": lambda shape: 1.0,
}

channels = st.integers(1, 20)
linear = st.tuples(channels, channels)
convolution = st.tuples(channels, channels, st.sampled_from([1, 3, 5]), st.sampled_from([1, 3, 5]))
some_shapes = st.lists(linear | convolution, min_size=1, max_size=7).map(
    lambda s: {f"layer {i}": x for i, x in enumerate(s)}
)
densities = st.sampled_from([0.02, 0.05, 0.1, 0.2, 0.5, 0.8, 0.9, 0.99, 1.0]) | st.floats(0.001, 1.0)


def by_bisection(shapes: Shapes, density: float, distribution: str) -> dict[str, float]:
    """Layer sizes as min(1, ε·raw)·n, with the ε at which they add up to round(density·N)."""
    size = {name: math.prod(shape) for name, shape in shapes.items()}
    raw = {name: RAW[distribution](tuple(shape)) for name, shape in shapes.items()}
    total = round(density * sum(size.values()))
    low, high = 0.0, 2 / min(raw.values())
    for _ in range(100):
        middle = (low + high) / 2
        if sum(min(1.0, middle * raw[name]) * size[name] for name in size) < total:
            low = middle
        else:
            high = middle
    return {name: min(1.0, high * raw[name]) * size[name] for name in size}


@settings(max_examples=200, deadline=None)
@given(some_shapes, densities, st.sampled_from(list(DISTRIBUTIONS)))
def test_counts_are_the_bisection_rounded_by_largest_remainder(
    shapes: dict[str, tuple[int, ...]], density: float, distribution: str
) -> None:
    size = {name: math.prod(shape) for name, shape in shapes.items()}
    total = round(density * sum(size.values()))
    if total < len(shapes):
        with pytest.raises(UsageError, match="needs one"):
            DISTRIBUTIONS[distribution](shapes, density)
        return
    count = DISTRIBUTIONS[distribution](shapes, density)
    ideal = by_bisection(shapes, density, distribution)
    assert list(count) == list(shapes)
    assert all(type(c) is int for c in count.values())
    assert sum(count.values()) == total
    assert all(1 <= count[name] <= size[name] for name in size)
    if min(ideal.values()) < 1:  # the smallest layers are given their one weight at the cost of the others
        return
    assert all(abs(count[name] - ideal[name]) < 1 + 1e-6 for name in size)
    up = [ideal[name] - math.floor(ideal[name]) for name in size if count[name] > ideal[name] + 1e-6]
    down = [ideal[name] - math.floor(ideal[name]) for name in size if count[name] < ideal[name] - 1e-6]
    assert min(up, default=1) >= max(down, default=0) - 1e-6


def test_erk_by_hand() -> None:
    # raw·n is the sum of the dimensions: 4 + 4 = 8, 4 + 8 + 3 + 3 = 18, 10 + 10 = 20; 46 in all, ε = 46/46 = 1
    shapes = {"small": (4, 4), "conv": (4, 8, 3, 3), "square": (10, 10)}
    assert erk(shapes, 46 / 404) == {"small": 8, "conv": 18, "square": 20}
    # at twice the total ε = 2 would fill the first layer exactly; at three times it is dense, 122 are left for 38 parts
    assert erk(shapes, 92 / 404) == {"small": 16, "conv": 36, "square": 40}
    assert erk(shapes, 138 / 404) == {"small": 16, "conv": 58, "square": 64}  # 57.79 and 64.21


@pytest.mark.parametrize(
    ("distribution", "counts"),
    [
        ("uniform", [4, 144, 20]),  # a fifth of 20, 720 and 100: 168 in all
        ("er", [8, 142, 18]),  # parts: 9, (8 + 10)·9 = 162, 20; ε = 168/191: 7.92, 142.49, 17.59
        ("erk", [20, 81, 67]),  # parts: 9, 24, 20; ε = 168/53 fills the first; ε = 148/44: 80.73, 67.27
    ],
)
def test_three_distributions_by_hand(distribution: str, counts: list[int]) -> None:
    shapes = {"linear": (4, 5), "conv": (8, 10, 3, 3), "head": (10, 10)}
    assert list(DISTRIBUTIONS[distribution](shapes, 0.2).values()) == counts


def test_largest_remainders_by_hand() -> None:
    size = dict.fromkeys("abcd", 10)
    assert round_to_total({"a": 2.5, "b": 3.3, "c": 1.9, "d": 2.3}, size, 10) == {"a": 3, "b": 3, "c": 2, "d": 2}
    assert round_to_total({"a": 0.1, "b": 0.1, "c": 4.9, "d": 4.9}, size, 10) == {"a": 1, "b": 1, "c": 4, "d": 4}
    assert round_to_total({"a": 0.2, "b": 10.0, "c": 0.2, "d": 0.6}, size, 11) == {"a": 1, "b": 8, "c": 1, "d": 1}


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
@pytest.mark.parametrize("density", [1.0, 0.99])
def test_almost_everything_is_possible(distribution: str, density: float) -> None:
    shapes = {"a": (3, 7), "b": (5, 2, 3, 3), "c": (1, 1), "d": (1, 9)}
    count = DISTRIBUTIONS[distribution](shapes, density)
    assert sum(count.values()) == round(density * 121)
    assert all(count[name] <= math.prod(shape) for name, shape in shapes.items())


@pytest.mark.parametrize(
    ("sparsity", "dense"),
    [  # the published ERK layouts
        (
            0.8,
            {
                "layer1.0.conv1", "layer1.0.conv3", "layer1.0.downsample.0", "layer1.1.conv1", "layer1.1.conv3",
                "layer1.2.conv1", "layer1.2.conv3", "layer2.0.conv1",
            },
        ),
        (0.9, {"layer1.0.conv1"}),
    ],
)  # fmt: skip
def test_published_dense_layers_of_resnet50(sparsity: float, dense: set[str]) -> None:
    with torch.device("meta"):
        shapes = {name: tuple(weight.shape) for name, weight in maskable_weights(resnet50()).items()}
    assert (len(shapes), sum(map(math.prod, shapes.values()))) == (54, 25_502_912)
    count = erk(shapes, 1 - sparsity)
    assert sum(count.values()) == round((1 - sparsity) * 25_502_912)
    assert {name.removesuffix(".weight") for name in count if count[name] == math.prod(shapes[name])} == dense
    ideal = by_bisection(shapes, 1 - sparsity, "erk")
    assert all(abs(count[name] - ideal[name]) < 1 + 1e-3 for name in count)


def test_one_layer_gets_everything() -> None:
    assert {name: counts({"only": (7, 9)}, 0.37)["only"] for name, counts in DISTRIBUTIONS.items()} == dict.fromkeys(
        ("erk", "er", "uniform"), 23
    )


@pytest.mark.parametrize(
    ("density", "kept"), [(1.0, 2000), (0.5, 1000), (0.05, 100), (0.0999, 200), (0.29, 580), (0.57, 1140), (0.001, 2)]
)
def test_total_is_rounded_never_cut(density: float, kept: int) -> None:
    assert total_count({"a": (10, 100), "b": (1000, 1)}, density) == kept


@pytest.mark.parametrize("density", [0.0, -0.5, 1.0000001, math.inf, math.nan])
def test_a_density_that_is_no_fraction_is_refused(density: float) -> None:
    with pytest.raises(UsageError, match=r"is not in \(0, 1\]"):
        uniform({"a": (10, 10)}, density)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(1, 5000), min_size=1, max_size=60), st.floats(1e-6, 0.05))
@example([961] * 50, 1e-4)
def test_where_layers_would_be_empty_the_suggested_density_works(sizes: list[int], density: float) -> None:
    shapes = {str(i): (size, 1) for i, size in enumerate(sizes)}
    if round(density * sum(sizes)) >= len(sizes):
        assert total_count(shapes, density) == round(density * sum(sizes))
        return
    with pytest.raises(UsageError) as error:
        total_count(shapes, density)
    suggested = re.search(r"at least ([\d.e-]+)$", str(error.value))
    assert suggested is not None
    assert total_count(shapes, float(suggested[1])) >= len(sizes)


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_a_layer_whose_share_is_less_than_one_weight_has_one(distribution: str) -> None:
    counts = DISTRIBUTIONS[distribution]({"large": (1000, 1000), "small": (3, 3), "row": (1, 4)}, 1e-4)
    assert counts == {"large": 98, "small": 1, "row": 1}


# ---- shares of what moves --------------------------------------------------------------------------------------------


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_what_is_apportioned_adds_up_fits_and_is_proportional_where_it_fits(data: st.DataObject) -> None:
    names = [f"layer {i}" for i in range(data.draw(st.integers(1, 6)))]
    size = {name: data.draw(st.integers(1, 50)) for name in names}
    share = {name: 10 ** data.draw(st.floats(-4, 4)) for name in names}
    least = data.draw(st.sampled_from([0, 1]))
    total = data.draw(st.integers(least * len(names), sum(size.values())))
    counts = apportion(total, share, size, least)
    assert counts.keys() == size.keys() and sum(counts.values()) == total
    assert all(least <= counts[name] <= size[name] for name in names)

    low, high = 0.0, sum(size.values()) / min(share.values())  # ε by halving: Σ min(ε·share, size) is the total
    for _ in range(200):
        middle = (low + high) / 2
        given = sum(min(middle * share[name], size[name]) for name in names)
        low, high = (middle, high) if given < total else (low, middle)
    pressed = sum(max(least - high * share[name], 0) for name in names)  # taken from the others by `least`
    for name in names:
        ideal = min(high * share[name], size[name])
        assert abs(counts[name] - ideal) < 1 + 1e-6 + pressed


def test_shares_by_hand() -> None:
    size = {"a": 10, "b": 3, "c": 100}
    assert apportion(16, {"a": 1, "b": 2, "c": 5}, size) == {"a": 2, "b": 3, "c": 11}  # b full: 13 by 1 to 5, 2⅙, 10⅚
    assert apportion(0, {"a": 1, "b": 2, "c": 5}, size) == {"a": 0, "b": 0, "c": 0}
    assert apportion(113, {"a": 1e-30, "b": 1e-30, "c": 1}, size) == size
