"""Copies of a masking, one that was taken off, explorations and phases that cannot be: one clear error each."""

import copy
import io
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch

from sparselearning import Exploration, take_ticket
from tests.exact import bits, check_sparse
from tests.misuse import every, inf, nan, refused
from tests.networks import Parts, backward, train, training

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
    train(parts.model, parts.optimizer, range(3))
    check_sparse(parts.masking)


def pickled(parts: Any) -> Any:
    return pickle.loads(pickle.dumps(parts))


@pytest.mark.parametrize("how", [copy.deepcopy, pickled])
def test_copies_of_model_and_optimizer_train_dense_and_give_no_ticket(how: Callable[[Any], Any]) -> None:
    parts = training()
    model, optimizer = how((parts.model, parts.optimizer))
    train(model, optimizer, range(2))
    refused(lambda: take_ticket(model.state_dict(), parts.masking.masks), "outside")
    train(parts.model, parts.optimizer, range(3))
    check_sparse(parts.masking)


# ---- after remove() --------------------------------------------------------------------------------------------------


def test_a_network_that_trained_on_after_remove_gives_no_ticket() -> None:
    parts = training()
    parts.masking.remove()
    take_ticket(parts.model.state_dict(), parts.masking.masks)  # still as it was
    train(parts.model, parts.optimizer, range(2))
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
    "drop='biggest'": ({"drop": "biggest"}, "drop 'biggest' is unknown: choose one of smallest, largest"),
    "momentum that nobody tracked": ({"growth": "momentum"}, "momentum is tracked from the start"),
    "swapped": ({"rate": "gradient", "growth": 0.5}, "growth|rate"),
}


@every(EXPLORATIONS, "options", "match")
def test_an_exploration_that_cannot_be_is_refused_and_training_goes_on(options: dict[str, Any], match: str) -> None:
    parts = training()
    refused(lambda: parts.masking.explore(**({"rate": 0.5} | options)), match)
    train(parts.model, parts.optimizer, range(3))
    check_sparse(parts.masking)


def test_of_two_explorations_before_a_step_the_last_happens() -> None:
    twice, once = training("static"), training("static")
    twice.masking.explore(0.9, "random")
    for parts in (twice, once):
        parts.masking.explore(0.3)
        train(parts.model, parts.optimizer, range(2))
    assert twice.masking.updates == once.masking.updates == 1
    assert bits(twice.masking.masks) == bits(once.masking.masks)


@every({name: row for name, row in EXPLORATIONS.items() if name != "drop=None"}, "options", "match")
def test_a_topology_update_by_hand_that_cannot_be_is_refused(options: dict[str, Any], match: str) -> None:
    parts = training()
    refused(lambda: parts.masking.update_topology(**({"rate": 0.5, "growth": "random"} | options)), match)
    train(parts.model, parts.optimizer, range(3))
    check_sparse(parts.masking)


# ---- phases ----------------------------------------------------------------------------------------------------------

PHASES: dict[str, tuple[dict[str, Any], str]] = {
    **{f"start={start!r}": ({"start": start}, "first step") for start in (-1, 0.5, nan, "0", None, True)},
    **{f"end={end!r}": ({"end": end}, "end of a phase") for end in (2, 9.5, nan, inf, "9", True)},
    **{f"explore={e!r:.30}": ({"explore": e}, "explore") for e in (0.5, (0.5, None), "gradient", True, Exploration)},
    "an exploration of half as a word": ({"explore": Exploration("half")}, "rate"),
    "an exploration of all twice": ({"explore": Exploration(2.0)}, "rate"),
    "an exploration that grows by nothing known": ({"explore": Exploration(0.5, "up")}, "growth"),
}


@every(PHASES, "options", "match")
def test_a_phase_that_cannot_be_is_refused(options: dict[str, Any], match: str) -> None:
    parts = training()
    refused(lambda: parts.masking.begin_phase(**({"start": 3, "end": 9} | options)), match)
    train(parts.model, parts.optimizer, range(3))
    check_sparse(parts.masking)


# ---- clipping, and other models --------------------------------------------------------------------------------------

CLIPPED: dict[str, tuple[Callable[[Parts], tuple[Any, Any]], str]] = {
    "a model": (lambda parts: (parts.model, 1.0), "model.parameters"),
    "a layer": (lambda parts: (parts.model[4], 1.0), "model.parameters"),
    "None": (lambda parts: (None, 1.0), "model.parameters"),
    "numbers": (lambda parts: ([1.0, 2.0], 1.0), "model.parameters"),
    "swapped": (lambda parts: (1.0, parts.model.parameters()), "model.parameters"),
    **{
        f"max_norm={norm!r}": (lambda parts, n=norm: (parts.model.parameters(), n), "max_norm")
        for norm in (-1.0, nan, "1.0", None, True)
    },
}


@every(CLIPPED, "make", "match")
def test_gradients_that_cannot_be_clipped_stay_as_they_are(
    make: Callable[[Parts], tuple[Any, Any]], match: str
) -> None:
    parts = training()
    backward(parts.model)
    before = bits({name: weight.grad for name, weight in parts.model.named_parameters()})
    refused(lambda: parts.masking.clip_grad_norm_(*make(parts)), match)
    assert bits({name: weight.grad for name, weight in parts.model.named_parameters()}) == before


def test_one_parameter_is_clipped_as_torch_does() -> None:
    parts = training()
    backward(parts.model)
    weight, mask = parts.model[4].weight, parts.masking.masks["4.weight"]
    norm = weight.grad[mask].norm()
    assert torch.allclose(parts.masking.clip_grad_norm_(weight, 0.01), norm)
    assert torch.allclose(weight.grad[mask].norm(), torch.tensor(0.01), rtol=1e-3)


NO_COPY: dict[str, tuple[Callable[[Parts], Any], str]] = {
    "None": (lambda parts: None, "None, not a torch.nn.Module"),
    "a state dict": (lambda parts: parts.model.state_dict(), "OrderedDict, not a torch.nn.Module"),
    "parameters": (lambda parts: parts.model.parameters(), "generator, not a torch.nn.Module"),
    "an optimizer": (lambda parts: parts.optimizer, "SGD, not a torch.nn.Module"),
    "another model": (lambda parts: torch.nn.Linear(3, 3), "0.weight"),
    "a part of the model": (lambda parts: parts.model[:3], "4.weight"),
}


@every(NO_COPY, "make", "match")
def test_what_is_no_copy_of_the_model_is_not_sparsified(make: Callable[[Parts], Any], match: str) -> None:
    parts = training()
    refused(lambda: parts.masking.sparsify_(make(parts)), match)
