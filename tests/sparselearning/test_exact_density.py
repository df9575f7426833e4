"""The density is an integer, always: in every layer together, whatever the method, the shapes and the numbers."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sparselearning import Masking, Superposition, UsageError, take_ticket
from tests.exact import check_sparse
from tests.networks import NUM_WEIGHTS, batch, layers, network, random_layers, sgd, train

EVERY_METHOD = ("static", "snip", "set", "rigl", "granet", "gmp")


@pytest.mark.parametrize("density", [0.5, 0.2, 0.1, 0.05, 0.02])
@pytest.mark.parametrize("method", EVERY_METHOD)
def test_density_is_exact_from_initialization_to_superposition(method: str, density: float) -> None:
    model = network()
    optimizer = sgd(model)
    gradual = {"prune_end": 8} if method in ("granet", "gmp") else {}
    masking = Masking(
        model, optimizer, method, density, update_frequency=2, total_steps=13, snip_batches=[batch(99)], **gradual
    )
    start = {"granet": 0.5, "gmp": 1.0}.get(method, density)

    def nnz(step: int) -> int:  # the cubic from step 0 to step 8, moved along at even steps
        to_go = 1 - min(step // 2 * 2, 8) / 8
        return round((density + (start - density) * to_go**3) * NUM_WEIGHTS)

    check_sparse(masking, nnz(0))
    for step in range(1, 12):
        train(model, optimizer, [step])
        check_sparse(masking, nnz(step))

    superposition = Superposition(masking.masks, masking.target_nnz, "cia")
    for cycle in range(3):
        masking.explore(0.5)
        masking.window = (0, 0)
        train(model, optimizer, range(100 + 2 * cycle, 102 + 2 * cycle))
        check_sparse(masking, round(density * NUM_WEIGHTS))
        superposition.add(take_ticket(model.state_dict(), masking.masks))
        ticket = superposition.ticket()
        assert sum(int(ticket[name].count_nonzero()) for name in masking.masks) == round(density * NUM_WEIGHTS)


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
