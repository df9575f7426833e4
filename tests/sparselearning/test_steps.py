"""What counts as a step: not one that is skipped; one with a closure, or with gradients that have a graph, does."""

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sparselearning import Masking, UsageError
from tests.exact import bits, check_sparse
from tests.misuse import inf
from tests.networks import backward, batch, network, sgd


def test_steps_that_never_happen_move_no_schedule() -> None:
    model = network()
    optimizer = sgd(model)
    masking = Masking(model, optimizer, "rigl", 0.2, update_frequency=2)
    dropped = []
    for step in range(9):
        backward(model, step)
        if step % 3 == 0:  # accumulate or skip
            continue
        optimizer.step()
        optimizer.zero_grad()
        dropped.append(masking.dropped)
    assert masking.step == 6
    assert [b > a for a, b in zip([0, *dropped], dropped, strict=False)] == [False, True] * 3


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


def gradients_of(model: nn.Module, optimizer: torch.optim.Optimizer, seed: int) -> Tensor:
    optimizer.zero_grad()
    return backward(model, seed)


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
        assert (masking.step, masking.updates) == (7, 2)
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
    check_sparse(masking)
