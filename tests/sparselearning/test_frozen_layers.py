"""Layers that stop training in the middle of a run keep their connections."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from tests.exact import bits, check_sparse
from tests.misuse import every
from tests.networks import Parts, backward, train, training

METHODS: dict[str, dict[str, Any]] = {
    "static": {}, "set": {}, "rigl": {}, "granet": {"prune_end": 4}, "snfs": {}, "dsr": {}
}  # fmt: skip
moving = pytest.mark.parametrize(("method", "options"), METHODS.items(), ids=METHODS)


def freeze_the_head(parts: Parts) -> None:
    parts.model[4].requires_grad_(False)


def leave_the_head_out(parts: Parts) -> None:
    parts.model[4].weight.register_post_accumulate_grad_hook(lambda weight: setattr(weight, "grad", None))


FROZEN = {"frozen": (freeze_the_head,), "without a gradient": (leave_the_head_out,)}


@pytest.mark.filterwarnings("ignore:.*gradient")
@moving
@every(FROZEN, "freeze")
def test_a_layer_that_no_longer_trains_keeps_its_connections_and_their_weights(
    freeze: Callable[[Parts], None], method: str, options: dict[str, Any]
) -> None:
    parts = training(method, steps=5, **options)
    freeze(parts)
    train(parts.model, parts.optimizer, range(1))
    mask, weight = parts.masking.masks["4.weight"].clone(), parts.model[4].weight.detach().clone()
    train(parts.model, parts.optimizer, range(6))
    parts.masking.explore(0.5)
    train(parts.model, parts.optimizer, range(2))
    assert torch.equal(parts.masking.masks["4.weight"], mask)
    assert torch.equal(parts.model[4].weight, weight)
    check_sparse(parts.masking)


@pytest.mark.filterwarnings("ignore:.*gradient")
@moving
def test_a_frozen_layer_with_a_gradient_left_keeps_its_connections(method: str, options: dict[str, Any]) -> None:
    parts = training(method, steps=5, **options)
    freeze_the_head(parts)
    parts.model[4].weight.grad = torch.zeros(10, 54)  # as zero_grad(set_to_none=False) leaves it
    mask = parts.masking.masks["4.weight"].clone()
    for seed in range(8):
        if seed == 3:
            parts.masking.explore(0.5)
        backward(parts.model, seed)
        parts.optimizer.step()
        parts.optimizer.zero_grad(set_to_none=False)
    assert torch.equal(parts.masking.masks["4.weight"], mask)
    check_sparse(parts.masking)


def score_by_frozen_features(parts: Parts) -> None:
    body = parts.model[:4]
    forward = body.forward
    body.forward = torch.no_grad()(forward)
    parts.model.forward = lambda inputs: parts.model[4](body(inputs))


@pytest.mark.filterwarnings("ignore:.*gradient")
@moving
@pytest.mark.parametrize("how", ["frozen", "not differentiated"])
def test_connections_stay_where_a_dense_head_is_all_that_trains(how: str, method: str, options: dict[str, Any]) -> None:
    parts = training(method, steps=5, exempt=["4.*"], **options)
    train(parts.model, parts.optimizer, range(1))
    if how == "frozen":
        parts.model[:4].requires_grad_(False)
    else:
        score_by_frozen_features(parts)
    masks, head = bits(parts.masking.masks), parts.model[4].weight.detach().clone()
    parts.masking.explore(0.5)
    train(parts.model, parts.optimizer, range(8))
    assert bits(parts.masking.masks) == masks
    assert not torch.equal(parts.model[4].weight, head)
    check_sparse(parts.masking, parts.masking.target_nnz)
