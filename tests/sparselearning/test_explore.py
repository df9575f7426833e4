"""An exploration happens once, at the start of the next step, by its gradient, and drops and grows as it is told to."""

import copy
import math

import pytest
import torch

from sparselearning import Exploration, Masking, UsageError
from tests.exact import bits, check_sparse
from tests.misuse import inf
from tests.networks import (
    batch,
    give_gradients,
    layers,
    network,
    random_layers,
    random_step,
    row,
    set_masks,
    sgd,
    train,
)


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


def test_an_exploration_of_the_largest_is_refused_by_dsr() -> None:
    model = random_layers()
    masking = Masking(model, sgd(model), "dsr", 0.3)
    with pytest.raises(UsageError, match="DSR drops what is below its threshold"):
        masking.explore(0.5, drop="largest")


def test_a_phase_explores_once_at_its_start_and_then_keeps_its_topology() -> None:
    model = layers((20, 20))
    masking = Masking(model, sgd(model, weight_decay=0.0), "rigl", 0.2, update_frequency=2)
    changes = []
    for number in range(14):
        if number == 6:
            masking.begin_phase(6, 14, updates=False, explore=Exploration(0.5))
        before = masking.masks["0.weight"].clone()
        random_step(masking, number)
        changes.append(int((before & ~masking.masks["0.weight"]).sum()))
    assert [number for number, change in enumerate(changes) if change] == [1, 3, 5, 6]  # updates, and one exploration
    masking.begin_phase(6, 14, updates=False, explore=Exploration(0.5))  # a run that goes on within the phase
    assert masking.masks["0.weight"].equal(before)
    random_step(masking, 14)
    assert masking.masks["0.weight"].equal(before)
