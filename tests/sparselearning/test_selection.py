"""Every selection has exactly k entries and is the one that sorting by hand gives."""

import math
from collections.abc import Iterator, Sequence
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sparselearning import selection
from sparselearning.selection import drop_count, generator, k_largest, k_largest_overall, random_mask
from sparselearning.topology import Topology, dropped, grown

inf, nan = math.inf, math.nan
property_test = settings(max_examples=150, deadline=None)

tied = st.sampled_from([0.0, 2**-149, 2**-126, 0.5, 1.0, 1.0 + 2**-23, 2.0**127, inf])
scores = st.one_of(tied, st.floats(0, width=32, allow_nan=False))


def sorted_choice(values: Sequence[float], k: int, candidates: Sequence[bool]) -> list[bool]:
    """The k largest of the candidates by Python's stable sort: earlier positions win ties."""
    order = sorted((i for i in range(len(values)) if candidates[i]), key=lambda i: -values[i])
    return [i in order[:k] for i in range(len(values))]


@pytest.fixture(params=["counting", "topk"], scope="module")
def either_way(request: pytest.FixtureRequest) -> Iterator[None]:
    """As on a CPU, and as on a GPU."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(selection, "_by_counting", getattr(selection, f"_by_{request.param}"))
        yield


on_any_device = pytest.mark.usefixtures("either_way")


# ---- the k largest ---------------------------------------------------------------------------------------------------


@on_any_device
@property_test
@given(st.data())
def test_k_largest_is_the_sorted_choice(data: st.DataObject) -> None:
    values = data.draw(st.lists(scores, min_size=1, max_size=40))
    candidates = data.draw(st.lists(st.booleans(), min_size=len(values), max_size=len(values)))
    k = data.draw(st.integers(0, sum(candidates)))
    mask = k_largest(torch.tensor(values), k, ~torch.tensor(candidates))
    assert mask.dtype == torch.bool
    assert mask.tolist() == sorted_choice(values, k, candidates)


@on_any_device
@property_test
@given(st.lists(st.lists(scores, min_size=1, max_size=12), min_size=1, max_size=5), st.data())
def test_k_largest_overall_keeps_the_best_of_each_layer_and_then_the_best_of_all(
    layers: list[list[float]], data: st.DataObject
) -> None:
    k = data.draw(st.integers(len(layers), sum(map(len, layers))))
    first_best = {(i, layer.index(max(layer))) for i, layer in enumerate(layers)}
    rest = [(i, j) for i, layer in enumerate(layers) for j in range(len(layer)) if (i, j) not in first_best]
    chosen = first_best | set(sorted(rest, key=lambda ij: -layers[ij[0]][ij[1]])[: k - len(layers)])
    masks = k_largest_overall([torch.tensor(layer) for layer in layers], k)
    assert {(i, j) for i, mask in enumerate(masks) for j in mask.nonzero().flatten().tolist()} == chosen


@on_any_device
def test_k_largest_overall_never_leaves_its_candidates() -> None:
    values = [torch.tensor([9.0, 1.0, 8.0]), torch.tensor([7.0, 7.0, 0.0])]
    barred = [torch.tensor([True, False, True]), torch.tensor([True, False, False])]
    assert [mask.tolist() for mask in k_largest_overall(values, 2, barred)] == [
        [False, True, False],
        [False, True, False],
    ]


@on_any_device
@pytest.mark.parametrize("bits", [0x7FC00000, 0x7F800001, 0x7FFFFFFF, -1], ids=hex)  # 0x7FFFFFFF is what CUDA makes
def test_a_nan_of_any_pattern_is_the_largest(bits: int) -> None:
    values = torch.tensor([bits, 0, 0, bits, bits, 0x7F800000], dtype=torch.int32).view(torch.float32)
    barred = torch.tensor([False, False, True, False, True, False])
    other, its_barred = torch.zeros(2), torch.tensor([True, False])
    for k in range(1, 5):
        chosen = torch.zeros(6, dtype=torch.bool).index_fill_(0, torch.tensor([0, 3, 5, 1][:k]), True)
        assert torch.equal(k_largest(values, k, barred), chosen)
        assert torch.equal(k_largest_overall([values, other], k + 1, [barred, its_barred])[0], chosen)


@on_any_device
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_are_ordered_too(dtype: torch.dtype) -> None:
    values = torch.tensor([0.25, 2.0, 0.0, 0.5, 2.0, 1.0], dtype=dtype)
    assert k_largest(values, 4).tolist() == [False, True, False, True, True, True]


@on_any_device
def test_memory_format_does_not_matter() -> None:
    values = torch.randint(0, 4, (6, 5, 3, 3), generator=generator("format")).float()
    barred = torch.rand(values.shape, generator=generator("candidates")) < 0.5
    last, last_barred = (t.to(memory_format=torch.channels_last) for t in (values, barred))
    plain = k_largest(values, 20, barred)
    for mask in (
        k_largest(last, 20, barred),
        k_largest(last, 20, last_barred),
        *k_largest_overall([last], 20, [last_barred]),
    ):
        assert torch.equal(mask, plain)


@on_any_device
def test_a_million_ties_are_cut_at_the_position() -> None:
    values = torch.ones(1_000_003)
    assert torch.equal(k_largest(values, 400_001).nonzero().flatten(), torch.arange(400_001))


# ---- drop and grow ---------------------------------------------------------------------------------------------------

# |w|      0.9  0.1  0.4  0.1  –    –    –    –        four active; p = 0.5 drops two: the tie at 0.1, positions 1 and 3
# |dL/dw|  5    2    0    3    2    3    0    inf      free: 1, 3, 4–7; grow two: 7 (inf), then 3 before 5 (both 3)
WEIGHT = torch.tensor([0.9, -0.1, 0.4, 0.1, 0.0, 0.0, 0.0, 0.0])
MASK = torch.tensor([1, 1, 1, 1, 0, 0, 0, 0], dtype=torch.bool)
SCORE = torch.tensor([5.0, 2.0, 0.0, 3.0, 2.0, 3.0, 0.0, inf])


def drop(weight: Tensor, mask: Tensor, active: int, count: int) -> Tensor:
    return dropped(Topology({"": mask}, {"": active}), lambda name: weight.abs(), {"": count}).masks[""]


def grow(scores: Tensor, mask: Tensor, count: int) -> Tensor:
    return grown(Topology({"": mask}, {"": int(mask.sum())}), lambda name: scores, {"": count}).masks[""]


@on_any_device
def test_eight_weights_by_hand() -> None:
    count = drop_count(0.5, 4, 4)
    kept = drop(WEIGHT, MASK, 4, count)
    assert count == 2
    assert kept.int().tolist() == [1, 0, 1, 0, 0, 0, 0, 0]
    assert grow(SCORE, kept, count).int().tolist() == [1, 0, 1, 1, 0, 0, 0, 1]


@on_any_device
def test_dropping_a_tie_keeps_the_first_positions() -> None:
    mask = torch.tensor([0, 1, 1, 0, 1, 1], dtype=torch.bool)
    assert drop(torch.ones(6), mask, 4, 2).int().tolist() == [0, 1, 1, 0, 0, 0]


@on_any_device
@pytest.mark.parametrize("rest", [0.0, inf, nan])
def test_what_stands_in_inactive_weights_is_never_kept(rest: float) -> None:
    weight = torch.where(MASK, torch.zeros(8), rest)
    assert drop(weight, MASK, 4, 2).int().tolist() == [1, 1, 0, 0, 0, 0, 0, 0]


@on_any_device
@pytest.mark.parametrize("score", [0.0, inf, nan])
def test_growth_takes_free_positions_only_however_the_active_ones_score(score: float) -> None:
    after = grow(torch.where(MASK, score, torch.zeros(8)), MASK, 3)
    assert after.int().tolist() == [1, 1, 1, 1, 1, 1, 1, 0]


@on_any_device
@property_test
@given(st.data())
def test_drop_then_grow_is_the_sorted_one(data: st.DataObject) -> None:
    n = data.draw(st.integers(1, 30))
    few = st.sampled_from([-2.0, -1.0, -0.0, 0.0, 1.0, 2.0])
    weight, score = (data.draw(st.lists(few, min_size=n, max_size=n)) for _ in "ws")
    mask = data.draw(st.lists(st.booleans(), min_size=n, max_size=n))
    rate = data.draw(st.sampled_from([0.0, 0.3, 0.5, 0.8, 1.0]))
    active = sum(mask)
    count = drop_count(rate, active, n - active)

    stay = sorted_choice([abs(w) for w in weight], active - count, mask)
    new = sorted_choice([abs(s) for s in score], count, [not s for s in stay])
    kept = drop(torch.tensor(weight), torch.tensor(mask), active, count)
    after = grow(torch.tensor(score).abs(), kept, count)
    assert kept.tolist() == stay
    assert after.tolist() == [s or g for s, g in zip(stay, new, strict=True)]
    assert sum(after.tolist()) == active


@pytest.mark.parametrize(
    ("rate", "active", "total", "count"),
    [
        (0.5, 8, 100, 4),
        (0.5, 5, 100, 3),  # rounded up
        (0.5, 1, 100, 1),
        (0.3, 10, 100, 3),  # not 4: 0.3·10 is an integer
        (0.07, 100, 1000, 7),  # 7.000000000000001 in binary
        (0.001, 10, 100, 1),
        (0.5, 90, 100, 10),  # only ten free places
        (0.5, 100, 100, 0),
        (0.5, 1, 1, 0),
        (0.0, 50, 100, 0),
        (1.0, 50, 100, 50),
    ],
)
def test_drop_count_by_hand(rate: float, active: int, total: int, count: int) -> None:
    assert drop_count(rate, active, total - active) == count


@property_test
@given(st.integers(0, 100), st.integers(0, 10**7))
def test_drop_count_rounds_up_the_decimal_rate(percent: int, active: int) -> None:
    assert drop_count(percent / 100, active, 10**9) == math.ceil(Fraction(percent, 100) * active)


# ---- randomness ------------------------------------------------------------------------------------------------------


@property_test
@given(st.lists(st.integers(1, 6), min_size=1, max_size=4), st.integers(0, 99), st.data())
def test_random_mask_has_exactly_k_entries(shape: list[int], seed: int, data: st.DataObject) -> None:
    k = data.draw(st.integers(0, math.prod(shape)))
    mask = random_mask(shape, k, generator(seed))
    assert mask.shape == tuple(shape)
    assert mask.dtype == torch.bool
    assert mask.sum() == k


def test_random_mask_reaches_every_position_about_equally_often() -> None:
    hits = sum(random_mask((10,), 3, generator(seed)).int() for seed in range(1000))
    assert isinstance(hits, Tensor)
    assert 250 < hits.min() <= hits.max() < 350  # 300 ± 3.5 standard deviations


def test_a_generator_depends_on_its_whole_key_and_nothing_else() -> None:
    keys = [
        (0, "growth", 1, "a"),
        (1, "growth", 1, "a"),
        (0, "init", 1, "a"),
        (0, "growth", 2, "a"),
        (0, "growth", 1, "b"),
    ]
    keys += [(2**32, "growth", 1, "a"), (-1, "growth", 1, "a")]  # beyond the 32 bits that torch would read
    state = torch.get_rng_state()
    draws = [tuple(torch.rand(4, generator=generator(*key)).tolist()) for key in keys]
    assert len(set(draws)) == len(keys)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(1)
    assert draws == [tuple(torch.rand(4, generator=generator(*key)).tolist()) for key in keys]


def test_a_generator_is_the_same_in_every_process() -> None:
    chosen = random_mask((12,), 4, generator(0, "init", "conv.weight"))
    assert chosen.nonzero().flatten().tolist() == [1, 8, 9, 11]  # recorded; hash() of a string would differ every time
