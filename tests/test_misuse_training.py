"""Copies of a masking, one that was taken off, explorations and optimizers that cannot be: one clear error each."""

import copy
import io
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from sparselearning import Masking, take_ticket
from tests.misuse import (
    Parts,
    backward,
    bits,
    check_sparse,
    every,
    inf,
    nan,
    network,
    refused,
    train,
    training,
)

# ---- copies ----------------------------------------------------------------------------------------------------------

COPIES: dict[str, Callable[[Parts], Any]] = {
    "a deep copy": lambda parts: copy.deepcopy(parts.masking),
    "a shallow copy": lambda parts: copy.copy(parts.masking),
    "a deep copy of all": lambda parts: copy.deepcopy(parts),
    "a pickle": lambda parts: pickle.dumps(parts.masking),
    "a pickle of all": lambda parts: pickle.dumps(tuple(parts)),
    "a file": lambda parts: torch.save(parts.masking, io.BytesIO()),
    "a file of all": lambda parts: torch.save({"masking": parts.masking, "model": parts.model}, io.BytesIO()),
}


@pytest.mark.parametrize("duplicate", COPIES.values(), ids=COPIES)
def test_a_copy_of_a_masking_is_refused_because_no_optimizer_would_know_it(duplicate: Callable[[Parts], Any]) -> None:
    parts = training()
    refused(lambda: duplicate(parts), "state_dict")
    train(parts.model, parts.optimizer, 3)
    check_sparse(parts.masking)


def pickled(parts: Any) -> Any:
    return pickle.loads(pickle.dumps(parts))


@pytest.mark.parametrize("how", [copy.deepcopy, pickled])
def test_copies_of_model_and_optimizer_train_dense_and_give_no_ticket(how: Callable[[Any], Any]) -> None:
    parts = training()
    model, optimizer = how((parts.model, parts.optimizer))
    train(model, optimizer, 2)
    refused(lambda: take_ticket(model.state_dict(), parts.masking.masks), "outside")
    train(parts.model, parts.optimizer, 3)
    check_sparse(parts.masking)


# ---- after remove() --------------------------------------------------------------------------------------------------


def test_a_network_that_trained_on_after_remove_gives_no_ticket() -> None:
    parts = training()
    parts.masking.remove()
    take_ticket(parts.model.state_dict(), parts.masking.masks)  # still as it was
    train(parts.model, parts.optimizer, 2)
    refused(lambda: take_ticket(parts.model.state_dict(), parts.masking.masks), "outside")


def test_an_exploration_after_remove_would_never_come() -> None:
    parts = training()
    parts.masking.remove()
    refused(lambda: parts.masking.explore(0.5), "remove")


# ---- explorations ----------------------------------------------------------------------------------------------------

EXPLORATIONS: dict[str, tuple[dict[str, Any], str]] = {
    **{f"rate={rate!r}": ({"rate": rate}, "rate") for rate in (-0.1, 1.5, 50, nan, inf, "0.5", None, True, [0.5])},
    **{f"growth={growth!r:.30}": ({"growth": growth}, "growth") for growth in ("gradients", "", 0.5, True, ["set"])},
    **{f"drop={drop!r}": ({"drop": drop}, "drop") for drop in ("biggest", "", None, 3, True, ["smallest"])},
    "momentum that nobody tracked": ({"growth": "momentum"}, "momentum is tracked from the start"),
    "swapped": ({"rate": "gradient", "growth": 0.5}, "growth|rate"),
}


@every(EXPLORATIONS, "options", "match")
def test_an_exploration_that_cannot_be_is_refused_and_training_goes_on(options: dict[str, Any], match: str) -> None:
    parts = training()
    refused(lambda: parts.masking.explore(**({"rate": 0.5} | options)), match)
    train(parts.model, parts.optimizer, 3)
    check_sparse(parts.masking)


def test_of_two_explorations_before_a_step_the_last_happens() -> None:
    twice, once = training("static"), training("static")
    twice.masking.explore(0.9, "random")
    for parts in (twice, once):
        parts.masking.explore(0.3)
        train(parts.model, parts.optimizer, 2)
    assert twice.masking.updates == once.masking.updates == 1
    assert bits(twice.masking.masks) == bits(once.masking.masks)


# ---- optimizers ------------------------------------------------------------------------------------------------------


def test_an_optimizer_that_evaluates_again_is_refused_where_connections_move() -> None:
    model = network()
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=3)
    Masking(model, optimizer, "set", 0.2)

    def closure() -> Tensor:
        optimizer.zero_grad()
        backward(model)
        return torch.tensor(1.0)

    refused(lambda: optimizer.step(closure), "LBFGS")
