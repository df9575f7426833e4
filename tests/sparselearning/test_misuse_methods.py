"""A row of METHODS that cannot work, or a score that is none, is refused where it is met first."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from sparselearning import METHODS, Masking, methods
from sparselearning.methods import Layer, Method
from tests.exact import bits, check_sparse
from tests.misuse import every, inf, nan, refused
from tests.networks import NNZ, backward, network, sgd, train

GROWS: dict[str, Any] = {"title": "New", "sparse_init": "erk", "growth": "gradient"}
PRUNES = GROWS | {"pruning": "gradual"}

ROWS: dict[str, tuple[Any, str]] = {
    "None": (None, "METHODS is None"),
    "the class": (Method, "METHODS is the class Method"),
    "a dict": (GROWS, "METHODS is a dict"),
    "a name": ("rigl", "METHODS is a str"),
    "an init that nobody knows": (Method(**(GROWS | {"sparse_init": "erkk"})), "sparse_init 'erkk'"),
    "no init": (Method(**(GROWS | {"sparse_init": None})), "sparse_init"),
    "a growth that nobody knows": (Method(**(GROWS | {"growth": "up"})), "growth 'up'"),
    "growth none by name": (Method(**(GROWS | {"growth": "none"})), "growth"),
    "a function for growth": (Method(**(GROWS | {"growth": methods.gradient})), "growth"),
    "a redistribution that nobody knows": (Method(**GROWS, redistribution="fair"), "redistribution 'fair'"),
    "a pruning that nobody knows": (Method(**GROWS, pruning="gradully"), "pruning 'gradully'"),
    "pruning True": (Method(**GROWS, pruning=True), "pruning"),
    "a negative threshold": (Method(**GROWS, threshold=-1.0), "threshold"),
    "a threshold of zero": (Method(**GROWS, threshold=0.0), "threshold"),
    "a threshold of NaN": (Method(**GROWS, threshold=nan), "threshold"),
    "a threshold of infinity": (Method(**GROWS, threshold=inf), "threshold"),
    "a threshold in words": (Method(**GROWS, threshold="0.001"), "threshold"),
    "an initial density of 2": (Method(**PRUNES, init_density=2.0), "init_density"),
    "an initial density below the final": (Method(**PRUNES, init_density=0.1), "init_density"),
    "an initial density of NaN": (Method(**PRUNES, init_density=nan), "init_density"),
    "an initial density of None": (Method(**PRUNES, init_density=None), "init_density"),
    "an initial density in words": (Method(**PRUNES, init_density="0.5"), "init_density"),
}


@every(ROWS, "row", "match")
def test_a_row_that_cannot_work_is_refused(monkeypatch: pytest.MonkeyPatch, row: Any, match: str) -> None:
    monkeypatch.setitem(METHODS, "new", row)
    model = network()
    before = bits(model.state_dict())
    refused(lambda: Masking(model, sgd(model), "new", 0.2, prune_end=4, update_frequency=2), match)
    assert bits(model.state_dict()) == before


SCORES: dict[str, tuple[Callable[[Layer], Any], str]] = {
    "nothing": (lambda layer: None, "growth"),
    "a number": (lambda layer: 1.0, "growth"),
    "a list": (lambda layer: layer.weight.tolist(), "growth"),
    "of another shape": (lambda layer: layer.weight.abs().flatten()[:-1], "growth"),
    "flat": (lambda layer: layer.weight.abs().flatten(), "growth"),
    "one for each output": (lambda layer: layer.weight.abs().sum(1), "growth"),
    "negative": (lambda layer: -layer.gradient.abs() - 1, "growth|negative"),
    "signed": (lambda layer: layer.gradient, "growth|negative"),
    "complex": (lambda layer: layer.weight + 0j, "growth"),
    "on the meta device": (lambda layer: layer.weight.abs().to("meta"), "growth"),
}


def refused_to_move(match: str) -> Masking:
    """The first topology update of the method `new` is refused, and leaves the masks as they were."""
    model = network()
    optimizer = sgd(model)
    masking = Masking(model, optimizer, "new", 0.2, update_frequency=2)
    train(model, optimizer, range(1))
    before = bits(masking.masks)
    backward(model)
    refused(optimizer.step, match)
    assert bits(masking.masks) == before
    return masking


@every(SCORES, "score", "match")
def test_a_score_that_is_none_is_refused_and_moves_nothing(
    monkeypatch: pytest.MonkeyPatch, score: Callable[[Layer], Any], match: str
) -> None:
    monkeypatch.setitem(METHODS, "new", Method(**(GROWS | {"growth": "new"})))
    monkeypatch.setitem(methods.GROWTH, "new", score)
    masking = refused_to_move(match)
    assert masking.nnz == NNZ


SHARES: dict[str, tuple[Callable[[Any, Any], Any], str]] = {
    "nothing": (lambda layers, left: None, "redistribution"),
    "a list": (lambda layers, left: [1.0, 2.0], "redistribution"),
    "a layer less": (lambda layers, left: {"4.weight": 1.0}, "redistribution"),
    "negative": (lambda layers, left: dict.fromkeys(left, -1.0), "redistribution"),
    "zero": (lambda layers, left: dict.fromkeys(left, 0.0), "redistribution"),
    "NaN": (lambda layers, left: dict.fromkeys(left, nan), "redistribution"),
    "infinite": (lambda layers, left: dict.fromkeys(left, inf), "redistribution"),
    "in words": (lambda layers, left: dict.fromkeys(left, "much"), "redistribution"),
}


@every(SHARES, "share", "match")
def test_shares_that_are_none_are_refused_and_move_nothing(
    monkeypatch: pytest.MonkeyPatch, share: Callable[[Any, Any], Any], match: str
) -> None:
    monkeypatch.setitem(METHODS, "new", Method(**GROWS, redistribution="new"))
    monkeypatch.setitem(methods.REDISTRIBUTION, "new", share)
    refused_to_move(match)


def test_scores_of_other_number_types_are_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    for convert in (torch.Tensor.double, torch.Tensor.half, torch.Tensor.long, torch.Tensor.bool):
        monkeypatch.setitem(METHODS, "new", Method(**(GROWS | {"growth": "new"})))
        monkeypatch.setitem(methods.GROWTH, "new", lambda layer, c=convert: c(layer.gradient.abs() * 9))
        model = network()
        optimizer = sgd(model)
        masking = Masking(model, optimizer, "new", 0.2, update_frequency=2)
        train(model, optimizer, range(5))
        check_sparse(masking)
