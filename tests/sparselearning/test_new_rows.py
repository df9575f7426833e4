"""A method is a row, and so are its scores."""

import pytest
import torch
from torch import Tensor

from sparselearning import METHODS, Masking, methods
from sparselearning.methods import Layer, Method
from tests.exact import check_sparse
from tests.networks import network, sgd, train


def test_a_new_method_is_a_row_and_a_score(monkeypatch: pytest.MonkeyPatch) -> None:
    def last_position(layer: Layer) -> Tensor:
        return torch.arange(layer.weight.numel()).view(layer.weight.shape).float()

    monkeypatch.setitem(METHODS, "last", Method("Last", sparse_init="uniform", growth="last"))
    monkeypatch.setitem(methods.GROWTH, "last", last_position)
    model = network()
    optimizer = sgd(model)
    masking = Masking(model, optimizer, "last", 0.2, update_frequency=2)
    train(model, optimizer, range(20))
    check_sparse(masking)
    for name, mask in masking.masks.items():  # the half that is grown
        assert mask.flatten()[-(masking.active[name] // 2) :].all()
