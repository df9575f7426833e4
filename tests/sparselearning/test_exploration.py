"""What moves connections between layers, all at once or the other way round: SNFS, DSR, PF, high variance."""

import copy
import io
import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from sparselearning import Masking, UsageError
from sparselearning.distributions import apportion
from tests.sparselearning.test_masking import bits, check_sparse, layers, network, row, set_masks, sgd, train
from tests.tiny import differences

SHAPES = ((9, 7), (5, 4), (3, 2), (8, 8))


def random_layers(seed: int = 0) -> nn.ModuleList:
    torch.manual_seed(seed)
    model = layers(*SHAPES)
    for weight in model.parameters():
        nn.init.normal_(weight)
    return model


def give_gradients(model: nn.Module, rng: torch.Generator, scales: tuple[float, ...] = (1, 1, 1, 1)) -> None:
    for weight, scale in zip(model.parameters(), scales, strict=True):
        weight.grad = scale * torch.randn(weight.shape, generator=rng)


# ---- shares ----------------------------------------------------------------------------------------------------------


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


# ---- SNFS ------------------------------------------------------------------------------------------------------------


def shared_out(total: int, share: list[float], room: list[int]) -> list[int]:
    """In proportion, a layer that is full left out; then the largest remainders."""
    ideal = [0.0] * len(share)
    open_ = list(range(len(share)))
    left = total
    while True:
        part = {i: left * share[i] / sum(share[j] for j in open_) for i in open_}
        full = [i for i in open_ if part[i] > room[i]]
        if not full:
            break
        for i in full:
            ideal[i], left = room[i], left - room[i]
            open_.remove(i)
    for i in open_:
        ideal[i] = part[i]
    counts = [math.floor(x) for x in ideal]
    for i in sorted(open_, key=lambda i: counts[i] - ideal[i])[: total - sum(counts)]:
        counts[i] += 1
    return counts


Arrays = list[np.ndarray]


def snfs(weights: Arrays, masks: Arrays, momenta: Arrays, rate: float) -> Arrays:
    """Dettmers & Zettlemoyer 2019, on flat arrays: drop by layer, share out by mean momentum, grow by momentum."""
    kept, lost = [], 0
    for w, mask in zip(weights, masks, strict=True):
        active = np.flatnonzero(mask)
        count = min(math.ceil(rate * len(active) - 1e-9), len(active) - 1)
        gone = active[np.argsort(np.abs(w[active]), kind="stable")[:count]]
        kept.append(mask.copy())
        kept[-1][gone] = False
        lost += count
    share = [max(float(np.abs(m[mask]).mean(dtype=np.float64)), 1e-30) for m, mask in zip(momenta, masks, strict=True)]
    gains = shared_out(lost, share, [int((~mask).sum()) for mask in kept])
    for mask, m, gain in zip(kept, momenta, gains, strict=True):
        free = np.flatnonzero(~mask)
        mask[free[np.argsort(-np.abs(m[free]), kind="stable")[:gain]]] = True
    return kept


@pytest.mark.parametrize("density", [0.1, 0.3, 0.7])
@pytest.mark.parametrize("scales", [(1, 1, 1, 1), (0.1, 1, 5, 1), (1e-6, 100, 1e-6, 1e-6), (0, 0, 1, 0)])
def test_snfs_is_what_numpy_makes_of_its_description(density: float, scales: tuple[float, ...]) -> None:
    model, rng = random_layers(), torch.Generator().manual_seed(1)
    optimizer = sgd(model, momentum=0.0, weight_decay=0.0)
    masking = Masking(model, optimizer, "snfs", density, update_frequency=3, prune_rate=0.4)
    uniform = [density * mask.numel() for mask in masking.masks.values()]
    assert all(abs(mask.sum() - ideal) < 1 for mask, ideal in zip(masking.masks.values(), uniform, strict=True))
    weights = [w.detach().flatten().numpy().copy() for w in model.parameters()]
    masks = [mask.flatten().numpy().copy() for mask in masking.masks.values()]
    momenta = [np.zeros_like(w) for w in weights]
    for step in range(1, 13):
        give_gradients(model, rng, scales)
        gradients = [w.grad.flatten().numpy().copy() for w in model.parameters()]
        optimizer.step()
        for i, gradient in enumerate(gradients):
            momenta[i] = np.float32(0.9) * momenta[i] + gradient
            weights[i] = weights[i] - np.float32(0.1) * gradient * masks[i]
        if step % 3 == 0:
            moved = snfs(weights, masks, momenta, 0.4)
            weights = [w * (old & new) for w, old, new in zip(weights, masks, moved, strict=True)]
            masks = moved
        for mask, weight, own, value in zip(masks, weights, masking.masks.values(), model.parameters(), strict=True):
            assert np.array_equal(own.flatten().numpy(), mask)
            np.testing.assert_allclose(value.detach().flatten().numpy(), weight, rtol=1e-5, atol=1e-6)
        check_sparse(masking, round(density * masking.num_weights))
    assert masking.updates == 4 and masking.dropped == masking.grown > 0


def test_snfs_moves_connections_to_the_layer_of_the_largest_momentum() -> None:
    model, rng = random_layers(), torch.Generator().manual_seed(1)
    optimizer = sgd(model)
    masking = Masking(model, optimizer, "snfs", 0.2, update_frequency=1, prune_rate=0.5)
    before = dict(masking.active)
    give_gradients(model, rng, (1e-3, 1e-3, 1e-3, 1.0))
    optimizer.step()
    gained = {name: masking.active[name] - before[name] for name in before}
    assert gained["3.weight"] > 0 > max(gained[name] for name in ("0.weight", "1.weight"))
    assert min(masking.active.values()) >= 1


@pytest.mark.parametrize("method", ["snfs", "dsr"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_network_that_diverges_keeps_its_density(method: str, value: float) -> None:
    """So that the run can end in a line that says so."""
    model = random_layers()
    optimizer = sgd(model)
    masking = Masking(model, optimizer, method, 0.3, update_frequency=1)
    for _ in range(3):
        for weight in model.parameters():
            weight.grad = torch.full_like(weight, value)
        optimizer.step()
        kept = sum(int(mask.sum()) for mask in masking.masks.values())
        assert masking.nnz == kept == round(0.3 * masking.num_weights)


# ---- DSR -------------------------------------------------------------------------------------------------------------


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


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_an_exploration_with_dsr_exchanges_the_part_that_it_is_told_to(rate: float) -> None:
    """The smallest of all layers together; its threshold, and with it the next update, stays what it was."""
    model = random_layers()
    masking = Masking(model, sgd(model), "dsr", 0.3)
    threshold, count = masking.threshold, math.ceil(rate * masking.target_nnz)
    magnitudes = torch.cat([w.detach().abs()[masking.masks[n]] for n, w in masking.weights.items()])
    least = magnitudes.sort().values[count - 1]
    kept = {name: masking.masks[name] & (w.detach().abs() > least) for name, w in masking.weights.items()}
    masking.explore(rate)
    for weight in model.parameters():
        weight.grad = torch.zeros_like(weight)
    masking.optimizer.step()
    assert (masking.dropped, masking.grown, masking.threshold) == (count, count, threshold)
    assert all((masking.masks[name] | ~mask).all() for name, mask in kept.items())
    check_sparse(masking, masking.target_nnz)


def test_methods_have_a_rate_of_their_own() -> None:
    model = random_layers()
    assert Masking(model, sgd(model), "dsr", 0.3).prune_rate == 0.08
    assert Masking(model, sgd(model), "set", 0.3).prune_rate == 0.5
    assert Masking(model, sgd(model), "dsr", 0.3, prune_rate=0.2).prune_rate == 0.2


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


# ---- always exact ----------------------------------------------------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_the_density_is_exact_and_no_layer_empty_whatever_moves(data: st.DataObject) -> None:
    size = st.integers(1, 6)
    model = layers(*data.draw(st.lists(st.tuples(size, size), min_size=1, max_size=4)))
    method = data.draw(st.sampled_from(["snfs", "dsr", "pf"]))
    density = data.draw(st.sampled_from([1.0, 0.9, 0.5, 0.2, 0.1]))
    rng = torch.Generator().manual_seed(data.draw(st.integers(0, 1000)))
    total = sum(weight.numel() for weight in model.parameters())
    if round(density * total) < len(model):
        return
    rate = data.draw(st.sampled_from([0.0, 0.3, 1.0]))
    optimizer = sgd(model)
    masking = Masking(model, optimizer, method, density, update_frequency=1, prune_rate=rate, prune_end=3)
    zero = data.draw(st.booleans())
    for step in range(1, 8):
        if step == 6:
            masking.explore(data.draw(st.sampled_from([0.5, 1.0])))
        for weight in model.parameters():
            weight.grad = torch.randn(weight.shape, generator=rng) * (not zero)
        optimizer.step()
        check_sparse(masking, total if method == "pf" and step < 3 else round(density * total))


# ---- explorations of another kind ------------------------------------------------------------------------------------


@pytest.mark.parametrize("growth", ["gradient", "random"])
def test_an_exploration_may_drop_the_largest(growth: str) -> None:
    """Sup-tickets, Table 11."""
    model = random_layers()
    optimizer = sgd(model, lr=0.0)
    masking = Masking(model, optimizer, "rigl", 0.5, update_frequency=1000)
    old, before = copy.deepcopy(masking.masks), [w.detach().clone() for w in model.parameters()]
    masking.explore(0.3, growth, "largest")
    give_gradients(model, torch.Generator().manual_seed(2))
    gradients = [w.grad.clone() for w in model.parameters()]
    optimizer.step()
    assert masking.step == 1 and masking.updates == 1
    for name, weight, gradient in zip(masking.masks, before, gradients, strict=True):
        active = old[name].flatten().nonzero().flatten().tolist()
        count = min(math.ceil(0.3 * len(active) - 1e-9), weight.numel() - len(active))
        largest = sorted(active, key=lambda i: -weight.flatten()[i].abs())[:count]
        kept = [i for i in active if i not in largest]
        assert masking.masks[name].flatten()[kept].all()
        grown = [i for i in masking.masks[name].flatten().nonzero().flatten().tolist() if i not in kept]
        assert len(grown) == count
        if growth == "gradient":
            free = [i for i in range(weight.numel()) if i not in kept]
            assert sorted(grown) == sorted(sorted(free, key=lambda i: -gradient.flatten()[i].abs())[:count])
    check_sparse(masking, round(0.5 * masking.num_weights))


@pytest.mark.parametrize(
    ("method", "growth", "drop", "message"),
    [
        ("rigl", None, "biggest", r"drop 'biggest' is unknown: choose one of smallest, largest"),
        ("dsr", None, "largest", r"DSR drops what is below its threshold"),
        ("rigl", "momentum", "smallest", r"momentum is tracked from the start"),
    ],
)
def test_an_exploration_that_a_method_cannot_do_is_refused(
    method: str, growth: str | None, drop: str, message: str
) -> None:
    model = random_layers()
    with pytest.raises(UsageError, match=message):
        Masking(model, sgd(model), method, 0.3).explore(0.5, growth, drop)


def test_the_drop_rate_decays_anew_in_each_phase() -> None:
    """FreeTickets, Algorithm 3 with the cosine of Appendix C: 40 of 400 weights active, p from 0.5."""
    model = layers((20, 20))
    optimizer = sgd(model)
    masking = Masking(model, optimizer, "set", 0.1, update_frequency=1, total_steps=10, prune_rate_decay="cosine")
    seen = [0]
    for window in ((0, 10), (10, 15)):
        masking.window = window
        for _ in range(window[1] - window[0]):
            optimizer.step()
            seen.append(masking.dropped)
    swapped = [b - a for a, b in pairwise(seen)]
    assert swapped == [20, 19, 16, 14, 10, 7, 5, 2, 1, 0, 19, 14, 7, 2, 0]


# ---- one-shot pruning ------------------------------------------------------------------------------------------------


def test_pf_is_dense_until_it_keeps_the_largest_weights_of_all_layers_for_good() -> None:
    model = network()
    optimizer = sgd(model)
    masking = Masking(model, optimizer, "pf", 0.2, prune_end=4, update_frequency=1)
    dense = network()
    plain = sgd(dense)
    for step in range(1, 4):
        train(model, optimizer, [step])
        train(dense, plain, [step])
        check_sparse(masking, 584)
    assert bits(model.state_dict()) == bits(dense.state_dict())  # as if nothing masked it
    train(model, optimizer, [4])
    train(dense, plain, [4])
    magnitudes = torch.cat([dense.get_parameter(name).abs().flatten() for name in masking.masks])
    least = magnitudes.sort(descending=True).values[117 - 1]
    for name, mask in masking.masks.items():
        assert torch.equal(mask, dense.get_parameter(name).abs() >= least)
    check_sparse(masking, 117)
    assert (masking.dropped, masking.grown, masking.updates) == (584 - 117, 0, 1)
    fixed = bits(masking.masks)
    train(model, optimizer, range(5, 9))
    assert bits(masking.masks) == fixed


# ---- connections to start from ---------------------------------------------------------------------------------------


def static_masks(seed: int = 0) -> dict[str, Tensor]:
    model = network()
    return dict(Masking(model, sgd(model), "static", 0.2, seed=seed).masks)


@pytest.mark.parametrize("weights", [False, True], ids=["masks", "weights of a ticket"])
def test_a_network_starts_from_the_connections_that_it_is_given(weights: bool) -> None:
    model, given = network(), static_masks(seed=7)
    init = {name: -0.5 * mask if weights else mask for name, mask in given.items()}
    masking = Masking(model, sgd(model), "static", 0.2, sparse_init=init)
    assert bits(masking.masks) == bits(given) != bits(static_masks())
    check_sparse(masking, 117)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda masks: masks.pop("6.weight"), r"^the connections to start from are .* another model: .* no 6.weight$"),
        (lambda masks: masks.update({"6.weight": masks["6.weight"].T}), r"^the connections .* another model: .* shape"),
        (lambda masks: masks["6.weight"].fill_(True), r"^there are \d+ connections .*, but density 0\.2 means 117$"),
    ],
    ids=["a layer less", "another shape", "other connections"],
)
def test_connections_that_do_not_fit_are_refused(change: Callable[[dict[str, Tensor]], Any], message: str) -> None:
    model, masks = network(), static_masks()
    change(masks)
    with pytest.raises(UsageError, match=message):
        Masking(model, sgd(model), "static", 0.2, sparse_init=masks)


# ---- state --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["snfs", "dsr", "pf"])
@pytest.mark.parametrize("stop", [3, 7])
def test_a_resumed_run_is_the_same_run(method: str, stop: int) -> None:
    def make() -> tuple[nn.Module, torch.optim.Optimizer, Masking]:
        model = network()
        optimizer = sgd(model)
        return model, optimizer, Masking(model, optimizer, method, 0.2, update_frequency=3, prune_end=6)

    model, optimizer, masking = make()
    train(model, optimizer, range(stop))
    masking.explore(0.5, drop="smallest" if method == "dsr" else "largest")
    file = io.BytesIO()
    torch.save([part.state_dict() for part in (model, optimizer, masking)], file)
    train(model, optimizer, range(stop, 16))
    file.seek(0)
    resumed = make()
    for part, state in zip(resumed, torch.load(file, weights_only=True), strict=True):
        part.load_state_dict(state)
    train(resumed[0], resumed[1], range(stop, 16))
    assert bits(resumed[0].state_dict()) == bits(model.state_dict())
    assert differences(resumed[2].state_dict(), masking.state_dict()) == []
    assert masking.updates > 1
