"""Masking keeps the density to the integer, moves what the papers move and when, and lets everything else alone."""

import copy
import io
import itertools
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from sparselearning import METHODS, Masking, Superposition, UsageError, methods, take_ticket
from sparselearning.layers import maskable_weights
from sparselearning.methods import GROWTH, Layer, Method

inf, nan = math.inf, math.nan
EVERY_METHOD = ("static", "snip", "set", "rigl", "granet", "gmp")


def network(seed: int = 0) -> nn.Sequential:
    """Three maskable weights of 216, 288 and 80 numbers: 584."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=2, bias=False),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10),
    )  # fmt: skip


def batch(seed: int) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(8, 3, 8, 8, generator=rng), torch.randint(10, (8,), generator=rng)


def sgd(model: nn.Module, **options: Any) -> torch.optim.SGD:
    return torch.optim.SGD(model.parameters(), **({"lr": 0.1, "momentum": 0.9, "weight_decay": 5e-4} | options))


def train(model: nn.Module, optimizer: Any, seeds: Sequence[int]) -> None:
    for seed in seeds:
        x, y = batch(seed)
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
        optimizer.zero_grad()


def layers(*shapes: tuple[int, int]) -> nn.ModuleList:
    """Bare linear weights of (inputs, outputs), for tests that write the gradients themselves."""
    return nn.ModuleList(nn.Linear(*shape, bias=False) for shape in shapes)


def row(weights: Sequence[float], gradients: Sequence[float]) -> nn.Linear:
    """One layer whose numbers a reader can follow."""
    layer = nn.Linear(len(weights), 1, bias=False)
    layer.weight.data = torch.tensor([weights])
    layer.weight.grad = torch.tensor([gradients])
    return layer


def set_masks(masking: Masking, *masks: Sequence[Any]) -> None:
    """Make these the masks, the other state as it is."""
    state = copy.deepcopy(masking.state_dict())
    for name, mask in zip(state["masks"], masks, strict=True):
        state["masks"][name] = torch.tensor(mask, dtype=torch.bool).view(state["masks"][name].shape)
    masking.load_state_dict(state)


def bits(tensors: Mapping[str, Tensor]) -> dict[str, bytes]:
    """What the tensors hold, to the bit: NaN equals itself, -0.0 is not 0.0."""
    return {name: tensor.detach().contiguous().numpy().tobytes() for name, tensor in tensors.items()}


def check_sparse(masking: Masking, nnz: int) -> None:
    """The masks have `nnz` entries, the bookkeeping says so, and outside them every weight is +0.0."""
    assert sum(int(mask.sum()) for mask in masking.masks.values()) == nnz
    assert masking.active == {name: int(mask.sum()) for name, mask in masking.masks.items()}
    assert masking.nnz == nnz
    for name, mask in masking.masks.items():
        outside = masking.weights[name].detach()[~mask]
        assert mask.dtype == torch.bool
        assert mask.any()
        assert not outside.any()
        assert not outside.signbit().any()
        assert (masking.ever_active[name] | ~mask).all()


# ---- the density is an integer, always -------------------------------------------------------------------------------


@pytest.mark.parametrize("density", [0.5, 0.2, 0.1, 0.05, 0.02])
@pytest.mark.parametrize("method", EVERY_METHOD)
def test_density_is_exact_from_initialisation_to_superposition(method: str, density: float) -> None:
    model = network()
    optimizer = sgd(model)
    gradual = {"prune_end": 8} if method in ("granet", "gmp") else {}
    masking = Masking(
        model, optimizer, method, density, update_frequency=2, total_steps=13, snip_batches=[batch(99)], **gradual
    )
    start = {"granet": 0.5, "gmp": 1.0}.get(method, density)

    def nnz(step: int) -> int:  # the cubic from step 0 to step 8, moved along at even steps
        to_go = 1 - min(step // 2 * 2, 8) / 8
        return round((density + (start - density) * to_go**3) * 584)

    check_sparse(masking, nnz(0))
    for step in range(1, 12):
        train(model, optimizer, [step])
        check_sparse(masking, nnz(step))

    superposition = Superposition(masking.masks, masking.target_nnz, "cia")
    for cycle in range(3):
        masking.explore(0.5)
        masking.window = (0, 0)
        train(model, optimizer, range(100 + 2 * cycle, 102 + 2 * cycle))
        check_sparse(masking, round(density * 584))
        superposition.add(take_ticket(model.state_dict(), masking.masks))
        ticket = superposition.ticket()
        assert sum(int(ticket[name].count_nonzero()) for name in masking.masks) == round(density * 584)


@settings(max_examples=120, deadline=None)
@given(st.data())
def test_density_is_exact_whatever_the_shapes_weights_and_gradients(data: st.DataObject) -> None:
    size = st.integers(1, 6)
    model = layers(*data.draw(st.lists(st.tuples(size, size), min_size=1, max_size=4)))
    method = data.draw(st.sampled_from(EVERY_METHOD))
    density = data.draw(st.sampled_from([1.0, 0.99, 0.7, 0.5, 0.2, 0.1, 0.02]))
    kind = data.draw(st.sampled_from(["random", "constant", "zero", "few"]))
    slope = data.draw(st.sampled_from(["random", "constant", "zero", "inactive nan", "inactive inf"]))
    seed = data.draw(st.integers(0, 1000))
    rate = data.draw(st.sampled_from([0.0, 0.3, 0.5, 1.0]))
    rng = torch.Generator().manual_seed(seed)

    for weight in model.parameters():
        random = torch.randn(weight.shape, generator=rng)
        weight.data = {"random": random, "constant": random * 0 + 0.5, "zero": random * 0, "few": random.round()}[kind]
    numel = [weight.numel() for weight in model.parameters()]
    optimizer = sgd(model)

    def build() -> Masking:
        init = min(max(density, 0.5), 1.0) if method == "granet" else None
        gradual = {"prune_end": 3, "init_density": init} if method in ("granet", "gmp") else {}
        return Masking(
            model, optimizer, method, density,
            sparse_init=data.draw(st.sampled_from(["erk", "er", "uniform"])),
            update_frequency=1, prune_rate=rate, seed=seed, **gradual,
        )  # fmt: skip

    if round(density * sum(numel)) < len(numel):
        with pytest.raises(UsageError, match="needs one"):
            build()
        return
    masking = build()
    start = masking.init_density
    check_sparse(masking, round(start * sum(numel)))
    for step in range(1, 5):
        for name, weight in masking.weights.items():
            weight.grad = torch.randn(weight.shape, generator=rng) * (slope != "zero")
            if slope == "constant":
                weight.grad.fill_(-1.0)
            if slope.startswith("inactive"):
                weight.grad[~masking.masks[name]] = float(slope.split()[1])
        before = masking.active
        optimizer.step()
        expected = round((density + (start - density) * (1 - min(step / 3, 1)) ** 3) * sum(numel))
        check_sparse(masking, expected)
        assert all(weight.isfinite().all() for weight in model.parameters())
        if method not in ("granet", "gmp"):
            assert masking.active == before  # layer by layer
    for weight in model.parameters():
        weight.grad = torch.zeros_like(weight)
    masking.explore(1.0)
    masking.window = (0, 0)
    optimizer.step()
    check_sparse(masking, round(density * sum(numel)))


# ---- drop and grow ---------------------------------------------------------------------------------------------------


def sorted_update(
    weights: list[Tensor], masks: list[Tensor], gradients: list[Tensor], rate: float, keep: int | None
) -> list[list[bool]]:
    """One topology update by Python's sort: earlier positions win ties. `keep`: first prune all layers to so many."""
    values = [[abs(v) for v in w.flatten().tolist()] for w in weights]
    scores = [[abs(v) for v in g.flatten().tolist()] for g in gradients]
    active = [[i for i, m in enumerate(mask.flatten().tolist()) if m] for mask in masks]
    if keep is not None and keep < sum(map(len, active)):
        firsts = [(layer, max(active[layer], key=lambda i: values[layer][i])) for layer in range(len(active))]
        others = [(layer, i) for layer in range(len(active)) for i in active[layer] if (layer, i) not in firsts]
        others.sort(key=lambda at: -values[at[0]][at[1]])
        kept = firsts + others[: keep - len(firsts)]
        active = [sorted(i for at, i in kept if at == layer) for layer in range(len(active))]
    result = []
    for value, score, here in zip(values, scores, active, strict=True):
        swap = min(math.ceil(round(rate * len(here), 6)), len(value) - len(here))
        stay = sorted(here, key=lambda i: -value[i])[: len(here) - swap]
        free = [i for i in range(len(value)) if i not in stay]
        grown = sorted(free, key=lambda i: -score[i])[:swap]
        result.append([i in stay or i in grown for i in range(len(value))])
    return result


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_rigl_and_granet_move_what_sorting_by_hand_moves(data: st.DataObject) -> None:
    granet = data.draw(st.booleans())
    shapes = data.draw(st.lists(st.tuples(st.integers(2, 5), st.integers(1, 5)), min_size=1, max_size=3))
    rate = data.draw(st.sampled_from([0.1, 0.3, 0.5, 0.9]))
    rng = torch.Generator().manual_seed(data.draw(st.integers(0, 10**6)))
    ties = data.draw(st.booleans())
    model = layers(*shapes)
    for weight in model.parameters():
        weight.data, weight.grad = (torch.randn(weight.shape, generator=rng) for _ in "wg")
        if ties:
            weight.data, weight.grad = weight.data.round(), weight.grad.round()
    optimizer = sgd(model, lr=0.0, momentum=0.9, weight_decay=0.0)
    gradual = {"method": "granet", "init_density": 0.8, "prune_end": 2} if granet else {"method": "rigl"}
    masking = Masking(
        model, optimizer, density=0.5, sparse_init="uniform", update_frequency=1, prune_rate=rate, **gradual
    )

    weights, gradients = ([t.clone() for t in ts] for ts in (model.parameters(), [w.grad for w in model.parameters()]))
    masks = [mask.clone() for mask in masking.masks.values()]
    keep = round((0.5 + 0.3 * 0.5**3) * masking.num_weights) if granet else None
    expected = sorted_update(weights, masks, gradients, rate, keep)
    optimizer.step()
    for weight, gradient, old, new, hand in zip(
        model.parameters(), gradients, masks, masking.masks.values(), expected, strict=True
    ):
        assert new.flatten().tolist() == hand
        before, momentum = weights.pop(0).detach(), optimizer.state[weight]["momentum_buffer"]
        # regrown or never dropped: bit for bit what they were; anything else starts from zero
        assert torch.equal(weight.detach(), torch.where(old & new, before, 0.0))
        assert torch.equal(momentum, torch.where(old & new, gradient, 0.0))


def test_eight_weights_by_hand() -> None:
    #             active ──────────────  free ──────────────
    layer = row([0.9, -0.1, 0.4, 0.2, 0.0, 0.0, 0.0, 0.0], [0.0, 0.5, 0.0, 0.1, 0.3, -0.9, 0.3, 0.2])
    optimizer = sgd(layer, lr=1.0, momentum=0.5, weight_decay=0.0)
    masking = Masking(layer, optimizer, "rigl", density=0.5, update_frequency=1, prune_rate=0.5)
    set_masks(masking, [1, 1, 1, 1, 0, 0, 0, 0])
    layer.weight.data = torch.tensor([[0.9, -0.1, 0.4, 0.2, 0.0, 0.0, 0.0, 0.0]])
    optimizer.step()
    # the step makes the weights 0.9, -0.6, 0.4, 0.1, so that 2 and 3 are dropped; of what is free then, 5 is grown for
    # its gradient of 0.9, and 4 before 6, which is equal (0.3)
    assert masking.masks["weight"].int().tolist() == [[1, 1, 0, 0, 1, 1, 0, 0]]
    assert layer.weight[0].tolist() == pytest.approx([0.9, -0.6, 0, 0, 0, 0, 0, 0])
    assert optimizer.state[layer.weight]["momentum_buffer"][0].tolist() == pytest.approx([0, 0.5, 0, 0, 0, 0, 0, 0])
    assert (masking.dropped, masking.grown) == (2, 2)
    layer.weight.grad = torch.tensor([[0.0, 0.1, 0.3, 0.0, 1.0, 1.0, 0.0, 0.0]])
    optimizer.step()
    # weights 0.9, -0.95 (momentum 0.35), -1, -1: 0 and 1 are dropped; 2 (0.3) is the best that is free, then 1 (0.1)
    assert masking.masks["weight"].int().tolist() == [[0, 1, 1, 0, 1, 1, 0, 0]]
    assert layer.weight[0].tolist() == pytest.approx([0, -0.95, 0, 0, -1, -1, 0, 0])  # 1 came back with its value
    assert optimizer.state[layer.weight]["momentum_buffer"][0].tolist() == pytest.approx([0, 0.35, 0, 0, 1, 1, 0, 0])


def test_growth_by_gradient_without_gradient_is_refused_and_moves_nothing() -> None:
    model = network()
    optimizer = sgd(model)
    masking = Masking(model, optimizer, "rigl", 0.1, update_frequency=3)
    train(model, optimizer, [0, 1])
    before = bits(masking.masks)
    optimizer.zero_grad()
    with pytest.raises(UsageError, match=r"has no gradient to grow by"):
        optimizer.step()
    assert bits(masking.masks) == before


@pytest.mark.parametrize("gradient", ["missing", "shuffled", "nan where inactive"])
def test_set_never_reads_a_gradient(gradient: str) -> None:
    masks = []
    for kind in ("zero", gradient):
        model = layers((12, 9), (9, 12))
        torch.manual_seed(0)
        for weight in model.parameters():
            nn.init.normal_(weight)
        optimizer = sgd(model, lr=1.0, weight_decay=0.0)
        masking = Masking(model, optimizer, "set", 0.3, update_frequency=1)
        for _ in range(3):
            for name, weight in masking.weights.items():
                filled = {"zero": 0.0, "missing": 0.0, "shuffled": torch.randn(weight.shape), "nan where inactive": nan}
                weight.grad = torch.zeros_like(weight) + filled[kind]
                weight.grad[masking.masks[name]] = 0.0  # what is active stays where it is, so that the drop is the same
                if kind == "missing":
                    weight.grad = None
            optimizer.step()
        masks.append(bits(masking.masks))
    assert masks[0] == masks[1]


def test_random_growth_depends_on_seed_update_and_layer_and_on_nothing_else() -> None:
    def score(seed: int = 0, updates: int = 7, layer: str = "0.weight", noise: int = 0) -> tuple[float, ...]:
        model = layers((4, 4), (4, 4))
        masking = Masking(model, sgd(model), "set", 0.5, seed=seed)
        torch.manual_seed(noise)
        layers_ = masking.layers(masking.topology, key=(seed, updates))
        return tuple(GROWTH["random"](layers_[layer]).flatten().tolist())

    assert score(noise=1) == score(noise=2)
    assert len({score(), score(seed=1), score(updates=8), score(layer="1.weight")}) == 4


def test_random_growth_reaches_every_free_position() -> None:
    grown = torch.zeros(1, 12, dtype=torch.bool)
    for seed in range(60):
        layer = row([0.0] * 12, [0.0] * 12)
        masking = Masking(layer, sgd(layer), "set", 0.25, update_frequency=1, seed=seed)
        set_masks(masking, [1, 1, 1] + [0] * 9)
        masking.update_topology(0.5, "random")
        assert masking.masks["weight"][0, 0]
        grown |= masking.masks["weight"]
    assert grown.all()


def test_an_exploration_right_after_a_random_update_explores() -> None:
    """The zeros that the update grew are dropped again; drawing the same positions once more would undo the drop."""
    model = layers((20, 20))
    optimizer = sgd(model)
    masking = Masking(model, optimizer, "set", 0.1, update_frequency=5)
    for step in range(6):
        for weight in model.parameters():
            weight.grad = torch.ones_like(weight)
        if step == 5:
            before = masking.masks["0.weight"].clone()
            masking.explore(0.5)
        optimizer.step()
    assert (masking.masks["0.weight"] & ~before).sum() > 10  # of 20


def test_momentum_growth_takes_the_largest_running_mean_of_the_dense_gradient() -> None:
    picked = {}
    for growth in ("gradient", "momentum"):
        layer = row([1.0, 0.0, 0.0, 0.0], [0.0] * 4)
        optimizer = sgd(layer, lr=0.01, weight_decay=0.0)
        masking = Masking(layer, optimizer, "rigl", 0.5, growth=growth, update_frequency=3)
        set_masks(masking, [1, 1, 0, 0])
        # position 2: 5, -1, 1 → 0.81·5 - 0.9·1 + 1 = 4.15; position 3: 0, 0, 2 → 2
        for gradient in ([0, 0, 5, 0], [0, 0, -1, 0], [0, 0, 1, 2]):
            layer.weight.grad = torch.tensor([gradient], dtype=torch.float32)
            optimizer.step()
        picked[growth] = masking.masks["weight"].int().tolist()
    assert picked == {"gradient": [[1, 0, 0, 1]], "momentum": [[1, 0, 1, 0]]}


# ---- gradual pruning -------------------------------------------------------------------------------------------------


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


# ---- when ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("every", "total", "end", "steps"),
    [
        (100, 1000, None, [100, 200, 300, 400, 500, 600, 700, 800, 900]),  # not at 1000, with no training after
        (100, None, None, [100, 200, 300, 400, 500, 600, 700, 800, 900, 1000]),
        (100, 1000, 700, [100, 200, 300, 400, 500, 600]),
        (100, 1000, 701, [100, 200, 300, 400, 500, 600, 700]),
        (300, 1000, None, [300, 600, 900]),
        (999, 1000, None, [999]),
        (1000, 1000, None, []),
        (100, 1000, 0, []),
    ],
)
def test_update_times_of_a_thousand_steps(every: int, total: int | None, end: int | None, steps: list[int]) -> None:
    layer = row([1.0, 0.0, 0.0, 0.0], [0.0] * 4)
    optimizer = sgd(layer)
    masking = Masking(layer, optimizer, "set", 0.5, update_frequency=every, total_steps=total)
    if end is not None:
        masking.window = (0, end)
    seen, dropped = [], 0
    for step in range(1, 1001):
        optimizer.step()
        if masking.dropped != dropped:
            seen.append(step)
            dropped = masking.dropped
    assert masking.step == 1000
    assert seen == steps


@pytest.mark.parametrize(
    ("decay", "swapped"),
    [
        ("constant", [20] * 9),
        ("linear", [18, 16, 14, 12, 10, 8, 6, 4, 2]),
        ("cosine", [20, 19, 16, 14, 10, 7, 5, 2, 1]),
    ],
)
def test_the_prune_rate_decays_over_the_run(decay: str, swapped: list[int]) -> None:
    """40 of 400 weights active, p from 0.5; cosine: ⌈20·(1 + cos(π·t/10))/2⌉."""
    model = layers((20, 20))
    optimizer = sgd(model)
    masking = Masking(model, optimizer, "set", 0.1, update_frequency=1, total_steps=10, prune_rate_decay=decay)
    seen = [0]
    for _ in range(9):
        optimizer.step()
        seen.append(masking.dropped)
    assert [b - a for a, b in itertools.pairwise(seen)] == swapped


@pytest.mark.parametrize("method", ["static", "snip"])
def test_a_static_network_moves_in_exploration_only(method: str) -> None:
    model = network()
    optimizer = sgd(model)
    masking = Masking(model, optimizer, method, 0.2, update_frequency=1, growth="random", snip_batches=[batch(99)])
    before = bits(masking.masks)
    train(model, optimizer, range(5))
    assert bits(masking.masks) == before
    assert bits(masking.ever_active) == before
    masking.explore(0.5)
    assert bits(masking.masks) == before  # not yet
    train(model, optimizer, [5])
    moved = bits(masking.masks)
    assert moved != before
    train(model, optimizer, [6, 7])
    assert bits(masking.masks) == moved  # once


@pytest.mark.parametrize("method", ["static", "snip"])
def test_growth_none_makes_exploration_do_nothing(method: str) -> None:
    model = network()
    optimizer = sgd(model)
    masking = Masking(model, optimizer, method, 0.2, growth="none", snip_batches=[batch(99)])
    before = bits(masking.masks)
    masking.explore(0.5)
    train(model, optimizer, range(3))
    assert bits(masking.masks) == before


@pytest.mark.parametrize("method", ["static", "rigl"])
def test_exploration_begins_the_next_real_step_and_reads_its_gradient(method: str) -> None:
    layer = row([1.0, 0.0, 0.0, 0.0, 0.0, 0.0], [0.0] * 6)
    optimizer = sgd(layer, lr=1.0, momentum=0.0, weight_decay=0.0)
    masking = Masking(layer, optimizer, method, 0.5, update_frequency=1000)
    set_masks(masking, [1, 1, 1, 0, 0, 0])
    layer.weight.data = torch.tensor([[3.0, 2.0, 1.0, 0.0, 0.0, 0.0]])
    masking.explore(0.5)
    layer.weight.grad = torch.tensor([[0.0, 0.0, 0.0, 9.0, 9.0, inf]])
    optimizer.zero_grad()  # a gradient scaler skips the step: nothing happens, the exploration stays due
    assert masking.masks["weight"].int().tolist() == [[1, 1, 1, 0, 0, 0]]
    layer.weight.grad = torch.tensor([[0.5, 0.0, 0.0, 4.0, -5.0, 1.0]])
    optimizer.step()
    # 2 and 1 went, 4 and 3 came, and were trained from this very step
    assert masking.masks["weight"].int().tolist() == [[1, 0, 0, 1, 1, 0]]
    assert layer.weight.tolist() == [[2.5, 0.0, 0.0, -4.0, 5.0, 0.0]]
    assert masking.step == 1
    layer.weight.grad = torch.full((1, 6), 0.25)
    optimizer.step()
    assert layer.weight.tolist() == [[2.25, 0.0, 0.0, -4.25, 4.75, 0.0]]


def test_steps_that_never_happen_move_no_schedule() -> None:
    model = network()
    optimizer = sgd(model)
    masking = Masking(model, optimizer, "rigl", 0.2, update_frequency=2)
    dropped = []
    for step in range(9):
        x, y = batch(step)
        F.cross_entropy(model(x), y).backward()
        if step % 3 == 0:  # accumulate or skip
            continue
        optimizer.step()
        optimizer.zero_grad()
        dropped.append(masking.dropped)
    assert masking.step == 6
    assert [b > a for a, b in zip([0, *dropped], dropped, strict=False)] == [False, True] * 3


@pytest.mark.parametrize("optimizer_class", [torch.optim.SGD, torch.optim.Adam])
def test_a_fused_optimizer_below_a_gradient_scaler_is_refused(optimizer_class: Any) -> None:
    """The scaler calls it in any case and lets it skip the step inside, where nobody sees it."""
    model = network()
    optimizer = optimizer_class(model.parameters(), lr=0.1, fused=True)
    masking = Masking(model, optimizer, "rigl", 0.2, update_frequency=1)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0)
    x, _ = batch(0)
    x[0] = inf
    masks = bits(masking.masks)
    scaler.scale(model(x).square().sum()).backward()
    with pytest.raises(UsageError, match="fused=False"):
        scaler.step(optimizer)
    assert masking.step == 0
    assert bits(masking.masks) == masks


def test_a_step_that_a_gradient_scaler_skips_counts_for_nothing() -> None:
    model = network()
    optimizer = sgd(model)
    masking = Masking(model, optimizer, "rigl", 0.2, update_frequency=2)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0)
    happened = 0
    for seed in range(6):
        x, y = batch(seed)
        loss = F.cross_entropy(model(x), y) * (inf if seed in (1, 2) else 1.0)
        before = bits(masking.masks), bits(masking.weights)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        happened += seed not in (1, 2)
        assert masking.step == happened
        assert ((bits(masking.masks), bits(masking.weights)) == before) == (seed in (1, 2))
    assert masking.dropped > 0


# ---- in anybody's loop -----------------------------------------------------------------------------------------------


def test_the_loop_of_the_docstring_trains() -> None:
    assert Masking.__doc__ is not None
    lines = re.findall(r"^ {8}(.*)\n", Masking.__doc__, re.MULTILINE)
    loop = "\n".join(line for line in lines if line)
    loop = loop[loop.index("masking = ") : loop.index("optimizer.zero_grad()") + len("optimizer.zero_grad()")]
    assert len(loop.splitlines()) == 5
    model = network()
    x, y = batch(0)
    loss_fn = nn.CrossEntropyLoss()
    scope = {"Masking": Masking, "model": model, "optimizer": sgd(model), "loader": [(x, y)] * 40, "loss_fn": loss_fn}
    before = loss_fn(model(x), y).item()
    exec(loop, scope)
    check_sparse(scope["masking"], 58)
    assert loss_fn(model(x), y).item() < 0.8 * before


def test_channels_last_is_the_same_network() -> None:
    masks = []
    for memory_format in (torch.contiguous_format, torch.channels_last):
        model = network().to(memory_format=memory_format)
        optimizer = sgd(model, lr=0.0)  # convolutions round differently in the two formats; selection must not
        masking = Masking(model, optimizer, "rigl", 0.2, update_frequency=1)
        for step in range(4):
            rng = torch.Generator().manual_seed(step)
            for weight in model.parameters():
                weight.grad = torch.randn(weight.shape, generator=rng).round().to(memory_format=memory_format) \
                    if weight.dim() == 4 else torch.randn(weight.shape, generator=rng)  # fmt: skip
            optimizer.step()
        check_sparse(masking, 117)
        masks.append((bits(masking.masks), bits(masking.weights)))
    assert masks[0] == masks[1]


def test_weights_and_masks_stay_where_they_are_in_memory() -> None:
    model = network()
    optimizer = sgd(model)
    masking = Masking(model, optimizer, "granet", 0.1, update_frequency=1, prune_end=3)
    tensors = (*masking.masks.values(), *masking.ever_active.values(), *model.parameters())
    where = [tensor.data_ptr() for tensor in tensors]
    masking.explore(0.5)
    train(model, optimizer, range(4))
    masking.load_state_dict(copy.deepcopy(masking.state_dict()))
    tensors = (*masking.masks.values(), *masking.ever_active.values(), *model.parameters())
    assert where == [tensor.data_ptr() for tensor in tensors]


def test_the_model_can_be_copied_and_saved_as_if_it_were_dense() -> None:
    model = network()
    keys = list(model.state_dict())
    optimizer = sgd(model)
    masking = Masking(model, optimizer, "rigl", 0.1, update_frequency=1)
    train(model, optimizer, range(2))
    copied = copy.deepcopy(model)
    assert list(model.state_dict()) == keys
    assert bits(copied.state_dict()) == bits(model.state_dict())
    before = bits(copied.state_dict())
    train(model, optimizer, [2])
    assert bits(copied.state_dict()) == before
    outside = {name: ~mask for name, mask in masking.masks.items()}
    train(copied, sgd(copied), range(3))  # nothing of Masking clings to the copy
    assert all(weight[outside[name]].any() for name, weight in maskable_weights(copied).items())


@pytest.mark.parametrize("wrap", [torch.compile, nn.DataParallel, lambda m: nn.DataParallel(torch.compile(m))])
def test_wrappers_leave_no_trace_in_names(wrap: Callable[[nn.Module], nn.Module]) -> None:
    model = network()
    wrapped = wrap(model)
    masking = Masking(wrapped, sgd(wrapped), "static", 0.1)
    assert list(masking.masks) == ["0.weight", "3.weight", "6.weight"]
    plain = network()
    assert bits(masking.masks) == bits(Masking(plain, sgd(plain), "static", 0.1).masks)


class WithPartNamedModule(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.module = nn.Linear(4, 4)
        self.head = nn.Linear(4, 2)


def test_a_part_that_is_called_module_is_no_wrapper() -> None:
    model = WithPartNamedModule()
    assert list(Masking(model, sgd(model), "static", 0.5).masks) == ["module.weight", "head.weight"]


class OptimizerWrapper:
    def __init__(self, optimizer: Any) -> None:
        self.optimizer = optimizer

    def step(self) -> None:
        self.optimizer.step()


def test_an_optimizer_within_wrappers_is_found() -> None:
    model = network()
    optimizer = sgd(model)
    masking = Masking(model, OptimizerWrapper(OptimizerWrapper(optimizer)), "rigl", 0.1)
    train(model, optimizer, range(2))
    assert masking.step == 2


def test_a_weight_that_the_optimizer_does_not_hold_is_refused() -> None:
    model = network()
    with pytest.raises(UsageError, match=r"does not hold 6\.weight"):
        Masking(model, torch.optim.SGD(model[:4].parameters(), lr=0.1), "rigl", 0.1)
    Masking(model, torch.optim.SGD(model[:4].parameters(), lr=0.1), "rigl", 0.1, exempt=["6.*"])


def gradients_of(model: nn.Module, optimizer: torch.optim.Optimizer, seed: int) -> Tensor:
    optimizer.zero_grad()
    x, y = batch(seed)
    loss = F.cross_entropy(model(x), y)
    loss.backward()
    return loss


def test_a_step_with_a_closure_is_a_step_like_any_other() -> None:
    """torch.optim documents `step(closure)`, and training frameworks compute the gradients inside it."""
    results = []
    for with_closure in (False, True):
        model = network()
        optimizer = sgd(model)
        masking = Masking(model, optimizer, "rigl", 0.2, update_frequency=3)
        for seed in range(7):
            if with_closure:
                optimizer.step(partial(gradients_of, model, optimizer, seed))
            else:
                gradients_of(model, optimizer, seed)
                optimizer.step()
        results.append((bits(masking.masks), bits(masking.weights)))
        for name, mask in masking.masks.items():
            assert not optimizer.state[masking.weights[name]]["momentum_buffer"][~mask].any()
    assert results[0] == results[1]


@pytest.mark.filterwarnings("ignore:Using backward")
def test_gradients_that_have_a_graph_of_their_own_are_cleared_too() -> None:
    model = network()
    optimizer = sgd(model)
    masking = Masking(model, optimizer, "rigl", 0.2)
    x, y = batch(0)
    F.cross_entropy(model(x), y).backward(create_graph=True)
    optimizer.step()
    optimizer.zero_grad()
    check_sparse(masking, 117)


# ---- which weights ---------------------------------------------------------------------------------------------------


class TiedAutoencoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(6, 6), nn.Linear(6, 6)
        self.second.weight = self.first.weight


@pytest.mark.parametrize(
    ("model", "names"),
    [
        (nn.Linear(4, 4), ["weight"]),
        (
            nn.Sequential(nn.Conv1d(4, 4, 3), nn.Conv2d(4, 4, 3), nn.Conv3d(4, 4, 3)),
            ["0.weight", "1.weight", "2.weight"],
        ),
        (nn.Sequential(nn.ConvTranspose1d(4, 2, 3), nn.ConvTranspose2d(4, 2, 3)), ["0.weight", "1.weight"]),
        (nn.Sequential(nn.ConvTranspose3d(4, 2, 3), nn.Conv2d(4, 4, 3, groups=4)), ["0.weight", "1.weight"]),
        (nn.MultiheadAttention(8, 2), ["in_proj_weight", "out_proj.weight"]),
        (
            nn.MultiheadAttention(8, 2, kdim=4, vdim=6, add_bias_kv=True),
            ["q_proj_weight", "k_proj_weight", "v_proj_weight", "out_proj.weight"],
        ),
        (TiedAutoencoder(), ["first.weight"]),
        (
            nn.Sequential(nn.Embedding(5, 4), nn.LayerNorm(4), nn.BatchNorm1d(4), nn.PReLU(4), nn.Linear(4, 4)),
            ["4.weight"],
        ),
    ],
    ids=["linear", "conv", "transposed", "depthwise", "attention", "attention, kdim", "tied", "others"],
)
def test_maskable_are_the_weights_of_all_convolutions_and_linear_layers(model: nn.Module, names: list[str]) -> None:
    masking = Masking(model, sgd(model), "static", 0.5)
    assert sorted(masking.masks) == sorted(names)
    parameters = dict(model.named_parameters())
    assert masking.num_weights == sum(parameters[name].numel() for name in names)
    check_sparse(masking, round(0.5 * masking.num_weights))


@pytest.mark.parametrize(
    ("exempt", "left"),
    [
        ([], ["0.weight", "3.weight", "6.weight"]),
        (["6.*"], ["0.weight", "3.weight"]),
        (["0.weight", "[36].weight"], None),
        (["*"], None),
    ],
)
def test_exempt_patterns_leave_weights_dense_and_uncounted(exempt: list[str], left: list[str] | None) -> None:
    model = network()
    if left is None:
        with pytest.raises(UsageError, match="no convolution or linear weights left"):
            Masking(model, sgd(model), "static", 0.1, exempt=exempt)
        return
    masking = Masking(model, sgd(model), "static", 0.1, exempt=exempt)
    assert list(masking.masks) == left
    weights = maskable_weights(model)
    check_sparse(masking, round(0.1 * sum(weights[name].numel() for name in left)))
    assert all(weights[name].all() for name in weights.keys() - set(left))


def test_tied_weights_train_at_their_density() -> None:
    model = TiedAutoencoder()
    optimizer = sgd(model)
    masking = Masking(model, optimizer, "rigl", 0.5, update_frequency=1)
    for _ in range(3):
        model.second(model.first(torch.randn(4, 6)).relu()).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    check_sparse(masking, 18)
    assert model.second.weight is model.first.weight


def test_ever_active_is_every_connection_that_ever_was() -> None:
    layer = row([1.0] * 8, [0.0] * 8)
    optimizer = sgd(layer, lr=0.0)
    masking = Masking(layer, optimizer, "rigl", 0.25, update_frequency=1)
    set_masks(masking, [1, 1, 0, 0, 0, 0, 0, 0])
    masking.ever_active["weight"].copy_(masking.masks["weight"])
    for best in (2, 3, 2):
        layer.weight.grad = torch.zeros(1, 8)
        layer.weight.grad[0, best] = 1.0
        optimizer.step()
    assert masking.ever_active["weight"].int().tolist() == [[1, 1, 1, 1, 0, 0, 0, 0]]
    assert masking.itop_rate() == 0.5


# ---- state -----------------------------------------------------------------------------------------------------------

RESUMED = [
    ("set", {}),
    ("rigl", {}),
    ("rigl", {"growth": "momentum"}),
    ("granet", {"prune_end": 12}),
    ("gmp", {"prune_end": 12}),
]
RESUMED += [("static", {}), ("rigl", {"prune_rate_decay": "cosine", "total_steps": 18})]


@pytest.mark.parametrize(("method", "options"), RESUMED)
@pytest.mark.parametrize("pending", [False, True], ids=["plain", "exploration due"])
def test_a_resumed_run_is_the_same_run(method: str, options: dict[str, Any], pending: bool) -> None:
    def build() -> tuple[nn.Module, torch.optim.Optimizer, Masking]:
        model = network()
        optimizer = sgd(model)
        return model, optimizer, Masking(model, optimizer, method, 0.2, update_frequency=3, **options)

    model, optimizer, masking = build()
    train(model, optimizer, range(7))
    if pending:
        masking.explore(0.5)
    file = io.BytesIO()
    torch.save([model.state_dict(), optimizer.state_dict(), masking.state_dict()], file)
    train(model, optimizer, range(7, 16))

    file.seek(0)
    resumed = build()
    for part, state in zip(resumed, torch.load(file, weights_only=True), strict=True):
        part.load_state_dict(state)
    train(resumed[0], resumed[1], range(7, 16))
    assert bits(resumed[0].state_dict()) == bits(model.state_dict())
    assert bits(resumed[2].masks) == bits(masking.masks)
    assert bits(resumed[2].ever_active) == bits(masking.ever_active)
    assert (resumed[2].step, resumed[2].dropped, resumed[2].grown) == (masking.step, masking.dropped, masking.grown)
    for a, b in zip(model.parameters(), resumed[0].parameters(), strict=True):
        assert bits(dict(resumed[1].state[b])) == bits(dict(optimizer.state[a]))


def other_states() -> Iterator[tuple[str, dict[str, Any]]]:
    yield "density", {"density": 0.1}
    yield "layers", {"exempt": ["6.*"]}
    yield "growth", {"growth": "momentum"}
    yield "method", {"method": "set"}
    yield "gradual method", {"method": "granet", "init_density": 0.2, "prune_end": 9}


@pytest.mark.parametrize(
    "options", [options for _, options in other_states()], ids=[name for name, _ in other_states()]
)
def test_a_state_of_another_run_is_refused_and_changes_nothing(options: dict[str, Any]) -> None:
    model, other = network(), network(1)
    masking = Masking(model, sgd(model), "rigl", 0.2)
    optimizer = sgd(other)
    stranger = Masking(
        other, optimizer, **({"method": "rigl", "density": 0.2, "seed": 1, "update_frequency": 1} | options)
    )
    train(other, optimizer, range(3))

    def everything() -> tuple[Any, ...]:
        tensors = masking.masks, masking.ever_active, masking.weights
        return *map(bits, tensors), masking.step, masking.active

    before = everything()
    with pytest.raises(UsageError):
        masking.load_state_dict(stranger.state_dict())
    assert everything() == before


def test_a_state_of_other_shapes_is_refused() -> None:
    model, other = layers((4, 6)), layers((6, 4))
    masking = Masking(model, sgd(model), "rigl", 0.5)
    with pytest.raises(UsageError, match="another model"):
        masking.load_state_dict(Masking(other, sgd(other), "rigl", 0.5).state_dict())


# ---- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "rigI"}, r"method 'rigI' is unknown: choose one of static, snip, set, dsr, snfs, rigl, granet, "),
        ({"growth": "gradients"}, r"growth 'gradients' is unknown"),
        ({"growth": "none"}, r"would empty RigL"),
        ({"sparse_init": "ERK"}, r"sparse_init 'ERK' is unknown"),
        ({"prune_rate_decay": "cosin"}, r"prune_rate_decay 'cosin' is unknown"),
        ({"prune_rate_decay": "cosine"}, r"needs total_steps"),
        ({"density": 0.0}, r"density 0 is not in \(0, 1\]"),
        ({"density": 1.5}, r"density 1\.5 is not in"),
        ({"density": -0.1}, r"density -0\.1 is not in"),
        ({"density": nan}, r"density nan is not in"),
        ({"density": 0.003}, r"keeps 2 of 584 weights"),
        ({"prune_rate": 1.1}, r"prune_rate 1\.1 is not in"),
        ({"prune_rate": -0.1}, r"prune_rate -0\.1 is not in"),
        ({"update_frequency": 0}, r"update_frequency 0 is not"),
        ({"method": "snip"}, r"give snip_batches"),
        ({"method": "granet"}, r"prune_end, .* must be given"),
        ({"method": "granet", "prune_end": 5, "prune_start": 5}, r"lie after prune_start"),
        ({"method": "granet", "prune_end": 9, "init_density": 0.01}, r"init_density 0\.01 is not between"),
        ({"method": "granet", "prune_end": 9, "init_density": 1.01}, r"init_density 1\.01 is not between"),
        ({"method": "granet", "prune_end": 9, "init_density": 0.0}, r"init_density 0 is not between"),
    ],
    ids=lambda value: "-".join(f"{k}={v}" for k, v in value.items()) if isinstance(value, dict) else "",
)
def test_mistakes_are_refused_in_one_line_before_anything_is_touched(options: dict[str, Any], message: str) -> None:
    model = network()
    before = bits(model.state_dict())
    with pytest.raises(UsageError, match=message) as error:
        Masking(model, sgd(model), **({"density": 0.1} | options))
    assert "\n" not in str(error.value)
    assert bits(model.state_dict()) == before


@pytest.mark.parametrize(("rate", "growth"), [(1.5, None), (-0.5, None), (0.5, "gradients"), (0.5, "momentum")])
def test_an_exploration_that_cannot_be_is_refused_where_it_is_asked_for(rate: float, growth: str | None) -> None:
    model = network()
    masking = Masking(model, sgd(model), "rigl", 0.1)
    with pytest.raises(UsageError):
        masking.explore(rate, growth)


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


# ---- a method is a row -----------------------------------------------------------------------------------------------


def test_a_new_method_is_a_row_and_a_score(monkeypatch: pytest.MonkeyPatch) -> None:
    def last_position(layer: Layer) -> Tensor:
        return torch.arange(layer.weight.numel()).view(layer.weight.shape).float()

    monkeypatch.setitem(METHODS, "last", Method("Last", sparse_init="uniform", growth="last"))
    monkeypatch.setitem(methods.GROWTH, "last", last_position)
    model = network()
    optimizer = sgd(model)
    masking = Masking(model, optimizer, "last", 0.2, update_frequency=2)
    train(model, optimizer, range(20))
    check_sparse(masking, 117)
    for name, mask in masking.masks.items():  # the half that is grown
        assert mask.flatten()[-(masking.active[name] // 2) :].all()
