"""Sparse training with any optimizer is what one would do by hand: mask, step, mask, and move the state along."""

import copy
from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sparselearning import Masking
from tests.exact import optimizer_state
from tests.networks import backward, network

Optimizer = Callable[..., torch.optim.Optimizer]

OPTIMIZERS: dict[str, tuple[Optimizer, dict[str, Any]]] = {
    "sgd": (torch.optim.SGD, {"lr": 0.1}),
    "momentum": (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "weight_decay": 5e-3}),
    "nesterov": (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "weight_decay": 5e-3, "nesterov": True}),
    "dampened, maximizing": (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "dampening": 0.5, "maximize": True}),
    "adam": (torch.optim.Adam, {"lr": 0.01, "weight_decay": 0.1}),
    "adam, amsgrad": (torch.optim.Adam, {"lr": 0.01, "amsgrad": True}),
    "adamw": (torch.optim.AdamW, {"lr": 0.01, "weight_decay": 0.1}),
    "rmsprop": (torch.optim.RMSprop, {"lr": 0.01, "momentum": 0.9, "centered": True, "weight_decay": 0.1}),
    "nadam": (torch.optim.NAdam, {"lr": 0.01, "weight_decay": 0.1}),
    "adagrad": (torch.optim.Adagrad, {"lr": 0.1, "weight_decay": 0.1}),
}
for name in ("momentum", "nesterov", "adam", "adam, amsgrad", "adamw"):
    for variant in ("foreach", "fused"):
        make, options = OPTIMIZERS[name]
        OPTIMIZERS[f"{name}, {variant}"] = make, options | {variant: True}
every_optimizer = pytest.mark.parametrize("optimizer", OPTIMIZERS)


def build(optimizer: str) -> tuple[nn.Sequential, torch.optim.Optimizer]:
    model = network()
    make, options = OPTIMIZERS[optimizer]
    return model, make(model.parameters(), **options)


def top(scores: Tensor, k: int) -> Tensor:
    """The k largest, first positions first."""
    order = scores.flatten().argsort(descending=True, stable=True)
    mask = torch.zeros(scores.numel(), dtype=torch.bool)
    mask[order[:k]] = True
    return mask.view(scores.shape)


@every_optimizer
@torch.no_grad()
def test_training_is_what_one_would_do_by_hand(optimizer: str) -> None:
    model, stepper = build(optimizer)
    masking = Masking(model, stepper, "rigl", 0.3, update_frequency=3, prune_rate=0.4)
    twin, by_hand = build(optimizer)
    parameters = dict(twin.named_parameters())
    masks = copy.deepcopy(masking.masks)
    for name, mask in masks.items():
        parameters[name][~mask] = 0

    def move(rate: float) -> None:
        for name, mask in masks.items():
            weight, nnz = parameters[name], int(mask.sum())
            swap = min(-int(-rate * nnz // 1), weight.numel() - nnz)
            kept = top(torch.where(mask, weight.abs(), -1), nnz - swap)
            new = kept | top(torch.where(kept, -1, weight.grad.abs()), swap)
            for tensor in (weight, *optimizer_state(by_hand, weight).values()):
                tensor[~(mask & new)] = 0  # regrown weights keep value and state, the newly grown start from zero
            mask.copy_(new)

    for step in range(1, 14):
        for one in (model, twin):
            with torch.enable_grad():
                backward(one, step)
        if step == 8:
            masking.explore(0.5)
            move(0.5)
        for name, mask in masks.items():
            if step % 3:
                parameters[name].grad[~mask] = 0
        stepper.step()
        by_hand.step()
        if step % 3 == 0:
            move(0.4)
        for name, mask in masks.items():
            parameters[name][~mask] = 0
        stepper.zero_grad()
        by_hand.zero_grad()

        for name, weight in model.named_parameters():
            assert torch.equal(weight, parameters[name]), (step, name)
            for key, state in optimizer_state(stepper, weight).items():
                assert torch.equal(state, optimizer_state(by_hand, parameters[name])[key]), (step, name, key)
        for name, mask in masks.items():
            assert torch.equal(masking.masks[name], mask), (step, name)
    assert masking.grown > 0


@every_optimizer
@pytest.mark.parametrize("method", ["static", "set", "rigl", "granet"])
def test_inactive_weights_and_their_state_stay_at_zero(method: str, optimizer: str) -> None:
    model, stepper = build(optimizer)
    options = {"prune_end": 8} if method == "granet" else {}
    masking = Masking(model, stepper, method, 0.2, update_frequency=4, **options)
    for step in range(1, 14):
        if step == 10:
            masking.explore(0.5)
        backward(model, step)
        stepper.step()
        stepper.zero_grad()
        for name, mask in masking.masks.items():
            weight = masking.weights[name].detach()
            for tensor in (weight, *optimizer_state(stepper, masking.weights[name]).values()):
                assert not tensor[~mask].any(), (step, name)
            assert not weight[~mask].signbit().any()


@every_optimizer
def test_an_update_leaves_the_weights_that_stay_as_the_step_made_them(optimizer: str) -> None:
    """At an update, survivors keep the value and the state that the step gave them, bit for bit."""
    results = []
    for update_frequency in (2, 1000):
        model, stepper = build(optimizer)
        masking = Masking(model, stepper, "rigl", 0.3, update_frequency=update_frequency)
        masks = copy.deepcopy(masking.masks)
        for step in range(2):
            backward(model, step)
            stepper.step()
            stepper.zero_grad()
        results.append((masking, masks, stepper))
    (moved, before, moved_stepper), (still, _, still_stepper) = results
    for name, mask in moved.masks.items():
        survivors, grown = mask & before[name], mask & ~before[name]
        a, b = moved.weights[name], still.weights[name]
        assert grown.any()
        assert torch.equal(a[survivors], b[survivors])
        assert not a[grown].any()
        for key, state in optimizer_state(moved_stepper, a).items():
            assert torch.equal(state[survivors], optimizer_state(still_stepper, b)[key][survivors]), key
            assert not state[grown].any(), key


@every_optimizer
@pytest.mark.parametrize("junk", [float("nan"), float("inf")])
def test_junk_in_inactive_gradients_reaches_nothing(optimizer: str, junk: float) -> None:
    """Not on ordinary steps, and not on steps that update, where gradients stay dense."""
    model, stepper = build(optimizer)
    masking = Masking(model, stepper, "set", 0.3, update_frequency=2)
    clean_model, clean_stepper = build(optimizer)
    clean = Masking(clean_model, clean_stepper, "set", 0.3, update_frequency=2)
    for step in range(6):
        backward(model, step)
        backward(clean_model, step)
        for name, mask in masking.masks.items():
            gradient = masking.weights[name].grad
            assert gradient is not None
            gradient[~mask] = junk
        stepper.step()
        clean_stepper.step()
        stepper.zero_grad()
        clean_stepper.zero_grad()
    for name, mask in masking.masks.items():
        assert torch.equal(mask, clean.masks[name])
        assert torch.equal(masking.weights[name], clean.weights[name])
        for key, state in optimizer_state(stepper, masking.weights[name]).items():
            assert torch.equal(state, optimizer_state(clean_stepper, clean.weights[name])[key]), key


class Jitter(torch.optim.Optimizer):
    """Moves every weight, gradient or not, as optimizers do that treat a matrix as a whole."""

    def __init__(self, parameters: Iterable[Tensor]) -> None:
        super().__init__(parameters, {})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.add_(torch.randn_like(parameter))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.bool, torch.float16, torch.float64], ids=str)
def test_state_of_any_number_type_follows_the_masks(dtype: torch.dtype) -> None:
    model, _ = build("sgd")
    optimizer = Jitter(model.parameters())
    masking = Masking(model, optimizer, "set", 0.3, update_frequency=2)
    for weight in masking.weights.values():
        optimizer.state[weight]["remembered"] = torch.ones_like(weight, dtype=dtype)
    before = copy.deepcopy(masking.masks)
    for _ in range(2):
        optimizer.step()
    for name, mask in masking.masks.items():
        assert torch.equal(optimizer.state[masking.weights[name]]["remembered"] != 0, mask & before[name])


@pytest.mark.parametrize("method", ["static", "set", "gmp"])
def test_an_optimizer_that_moves_everything_moves_no_inactive_weight(method: str) -> None:
    model, _ = build("sgd")
    optimizer = Jitter(model.parameters())
    options = {"prune_end": 4} if method == "gmp" else {}
    masking = Masking(model, optimizer, method, 0.3, update_frequency=2, **options)
    for _ in range(5):
        before = copy.deepcopy(masking.masks)
        optimizer.step()
        assert sum(int(weight.count_nonzero()) for weight in masking.weights.values()) <= masking.nnz
        for name, weight in masking.weights.items():  # one that was inactive in the step has just grown, at zero
            assert not weight.detach()[~(masking.masks[name] & before[name])].any()


def test_exploring_before_the_first_step_needs_no_state() -> None:
    for optimizer in OPTIMIZERS:
        model, stepper = build(optimizer)
        masking = Masking(model, stepper, "rigl", 0.3)
        masking.explore(0.5)
        backward(model, 0)
        stepper.step()
        assert masking.grown > 0
        for weight in masking.weights.values():
            assert all(state.isfinite().all() for state in optimizer_state(stepper, weight).values())
