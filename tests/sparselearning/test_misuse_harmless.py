"""What a hurried user does to a network in training, and the right thing happens."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from sparselearning import Masking, take_ticket
from tests.exact import bits, check_sparse
from tests.misuse import every, refused
from tests.networks import Parts, backward, batch, network, train, training

METHODS_THAT_MOVE: list[tuple[str, dict[str, Any]]] = [
    ("static", {}), ("set", {}), ("rigl", {}), ("granet", {"prune_end": 4}), ("snfs", {}), ("dsr", {})
]  # fmt: skip
any_method = pytest.mark.parametrize(("method", "options"), METHODS_THAT_MOVE, ids=[m for m, _ in METHODS_THAT_MOVE])

OPTIMIZERS: dict[str, tuple[type[torch.optim.Optimizer], dict[str, Any]]] = {
    "sgd": (torch.optim.SGD, {"lr": 0.05, "momentum": 0.9}),
    "adam": (torch.optim.Adam, {"amsgrad": True}),
    "adamw": (torch.optim.AdamW, {}),
    "adamax": (torch.optim.Adamax, {}),
    "adadelta": (torch.optim.Adadelta, {}),
    "adagrad": (torch.optim.Adagrad, {"lr": 0.01, "initial_accumulator_value": 0.1}),
    "nadam": (torch.optim.NAdam, {}),
    "radam": (torch.optim.RAdam, {}),
    "rmsprop": (torch.optim.RMSprop, {"lr": 0.001, "momentum": 0.9, "centered": True}),
    "rprop": (torch.optim.Rprop, {"lr": 0.001}),
    "asgd": (torch.optim.ASGD, {}),
}


# ---- what an optimizer remembers from dense training -----------------------------------------------------------------


@pytest.mark.parametrize("method", ["static", "set"])
@every(OPTIMIZERS, "make", "options")
def test_state_of_dense_training_is_cleared_outside_the_masks(make: Any, options: dict[str, Any], method: str) -> None:
    model = network()
    optimizer = make(model.parameters(), **options)
    train(model, optimizer, range(3))
    masking = Masking(model, optimizer, method, 0.2)
    train(model, optimizer, range(1))
    check_sparse(masking)


@pytest.mark.parametrize("method", ["static", "set"])
@every(OPTIMIZERS, "make", "options")
def test_state_loaded_from_a_dense_run_is_cleared_outside_the_masks(
    make: Any, options: dict[str, Any], method: str
) -> None:
    dense, model = network(), network()
    saved = make(dense.parameters(), **options)
    train(dense, saved, range(3))
    optimizer = make(model.parameters(), **options)
    masking = Masking(model, optimizer, method, 0.2)
    train(model, optimizer, range(2))
    optimizer.load_state_dict(saved.state_dict())
    train(model, optimizer, range(1))
    check_sparse(masking)


# ---- in the middle of training ---------------------------------------------------------------------------------------


def scale_weights(parts: Parts) -> None:
    with torch.no_grad():
        for weight in parts.model.parameters():
            weight.mul_(0.9)


def swap_an_average_in_and_out(parts: Parts) -> None:
    own = {name: tensor.clone() for name, tensor in parts.model.state_dict().items()}
    parts.model.load_state_dict(network(1).state_dict())
    parts.model(batch()[0])
    parts.model.load_state_dict(own)


def step_in_a_block_without_gradients(parts: Parts) -> None:
    backward(parts.model)
    with torch.no_grad():
        parts.optimizer.step()


def step_twice(parts: Parts) -> None:
    backward(parts.model)
    parts.optimizer.step()
    parts.optimizer.step()


def explore_and_evaluate(parts: Parts) -> None:
    parts.masking.explore(0.5)
    parts.model.eval()
    parts.model(batch()[0])
    parts.model.train()


def load_its_own_state(parts: Parts) -> None:
    parts.masking.load_state_dict(parts.masking.state_dict())


def add_a_dense_parameter(parts: Parts) -> None:
    parts.optimizer.add_param_group({"params": [nn.Parameter(torch.zeros(3))], "lr": 0.5})


def new_gradients(parts: Parts) -> None:
    for weight in parts.model.parameters():
        weight.grad = torch.ones_like(weight)


HARMLESS: dict[str, tuple[Callable[[Parts], Any]]] = {
    "weights are scaled": (scale_weights,),
    "an average is swapped in and out": (swap_an_average_in_and_out,),
    "a step without gradients being recorded": (step_in_a_block_without_gradients,),
    "two steps with one gradient": (step_twice,),
    "an evaluation after explore": (explore_and_evaluate,),
    "its own state is loaded": (load_its_own_state,),
    "its model's own state is loaded": (lambda parts: parts.model.load_state_dict(parts.model.state_dict()),),
    "the optimizer's own state is loaded": (lambda p: p.optimizer.load_state_dict(p.optimizer.state_dict()),),
    "the optimizer forgets": (lambda parts: parts.optimizer.state.clear(),),
    "a group without masks is added": (add_a_dense_parameter,),
    "gradients written by hand": (new_gradients,),
    "a deep copy of the model": (lambda parts: copy.deepcopy(parts.model),),
    "single precision again": (lambda parts: parts.model.float(),),
    "channels last": (lambda parts: parts.model.to(memory_format=torch.channels_last),),
    "gradients set to zero": (lambda parts: parts.optimizer.zero_grad(set_to_none=False),),
    "a ticket is taken": (lambda parts: take_ticket(parts.model.state_dict(), parts.masking.masks),),
}


@any_method
@every(HARMLESS, "meddle")
def test_the_network_stays_sparse_through(meddle: Callable[[Parts], Any], method: str, options: dict[str, Any]) -> None:
    parts = training(method, steps=5, **options)
    meddle(parts)
    for _ in range(5):
        train(parts.model, parts.optimizer, range(1))
        check_sparse(parts.masking)
    take_ticket(parts.model.state_dict(), parts.masking.masks)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
@any_method
def test_a_model_of_another_precision_trains_on(method: str, options: dict[str, Any], dtype: torch.dtype) -> None:
    parts = training(method, steps=5, **options)
    parts.model.to(dtype)
    for state in parts.optimizer.state.values():
        state.update({name: s.to(dtype) for name, s in state.items() if isinstance(s, torch.Tensor)})
    train(parts.model, parts.optimizer, range(5))
    check_sparse(parts.masking)


# ---- steps without gradients -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("early", ["zero_grad first", "no backward"])
def test_a_step_that_grows_by_gradients_that_nobody_computed_is_refused(early: str) -> None:
    parts = training("rigl", steps=3)
    masks = bits(parts.masking.masks)
    if early == "zero_grad first":
        backward(parts.model)
    parts.optimizer.zero_grad()
    refused(parts.optimizer.step, "has no gradient to grow by")
    assert bits(parts.masking.masks) == masks


@pytest.mark.parametrize("method", ["static", "set"])
def test_a_step_without_gradients_does_no_harm_where_none_are_read(method: str) -> None:
    parts = training(method, steps=3)
    parts.optimizer.zero_grad()
    parts.optimizer.step()
    train(parts.model, parts.optimizer, range(4))
    check_sparse(parts.masking)


def test_two_masked_networks_do_not_disturb_each_other() -> None:
    first, second = training("set"), training("rigl")
    train(second.model, second.optimizer, range(3))
    train(first.model, first.optimizer, range(3))
    for parts in (first, second):
        check_sparse(parts.masking)
