"""A topology is one value: its counts belong to its masks in every step; a layer without a gradient keeps its own."""

from typing import Any

import pytest
import torch

from sparselearning import Masking
from sparselearning.topology import Topology, dropped, dropped_below, grown, pruned
from tests.networks import layers, random_step, sgd


def check_counts(topology: Topology, active: dict[str, int]) -> None:
    assert {name: int(mask.sum()) for name, mask in topology.masks.items()} == dict(topology.active) == active


def test_every_step_returns_a_new_consistent_topology_and_changes_nothing() -> None:
    masks = {"a": torch.tensor([1, 1, 1, 0, 0]).bool(), "b": torch.tensor([1, 1, 0]).bool()}
    weights = {"a": torch.tensor([3.0, -1.0, 2.0, 0.0, 0.0]), "b": torch.tensor([0.5, 4.0, 0.0])}
    start = Topology.of({name: mask.clone() for name, mask in masks.items()})
    check_counts(start, {"a": 3, "b": 2})
    fewer = pruned(start, weights, 3)  # 4, 3, 2
    check_counts(fewer, {"a": 2, "b": 1})
    assert fewer.masks["a"].tolist() == [True, False, True, False, False]
    left = dropped(fewer, lambda name: weights[name].abs(), {"a": 1, "b": 0})
    check_counts(left, {"a": 1, "b": 1})
    after = grown(left, lambda name: torch.arange(weights[name].numel()).float(), {"a": 2, "b": 1})
    check_counts(after, {"a": 3, "b": 2})
    assert after.masks["a"].tolist() == [True, False, False, True, True]
    barred = grown(left, lambda name: torch.ones_like(weights[name]), {"a": 1, "b": 0}, barred=masks)
    assert barred.masks["a"].tolist() == [True, False, False, True, False]
    check_counts(dropped_below(start, weights, 3.5), {"a": 1, "b": 1})  # every layer keeps its largest
    assert all(torch.equal(start.masks[name], mask) for name, mask in masks.items())


@pytest.mark.parametrize("method", ["rigl", "snfs", "granet"])
def test_the_optimizer_never_sees_the_gradient_of_a_weight_that_is_not_there(method: str) -> None:
    options: dict[str, Any] = {"prune_end": 4} if method == "granet" else {}
    model, norms = layers((20, 20)), []

    class Optimizer(torch.optim.SGD):
        def step(self, closure: Any = None) -> None:
            (weight,) = (p for group in self.param_groups for p in group["params"])
            norms.append((float(weight.grad.norm()), float(weight.grad[~masking.masks["0.weight"]].norm())))
            super().step()

    masking = Masking(model, Optimizer(model.parameters(), lr=0.1), method, 0.1, update_frequency=2, **options)
    dense = []
    for number in range(6):
        masks = masking.masks["0.weight"].clone()
        gradient = random_step(masking, number)["0.weight"]
        dense.append(float(gradient[masks].norm()))
    assert [outside for _, outside in norms] == [0.0] * 6
    assert [norm for norm, _ in norms] == pytest.approx(dense)


@pytest.mark.parametrize("method", ["set", "rigl", "granet", "snfs", "dsr"])
def test_a_layer_without_a_gradient_keeps_its_connections_with_one_warning(method: str) -> None:
    options: dict[str, Any] = {"prune_end": 2} if method == "granet" else {}
    model = layers((12, 12), (12, 12), (12, 12))
    masking = Masking(model, sgd(model, weight_decay=0.0), method, 0.3, update_frequency=2, init_density=0.3, **options)
    masking.threshold = masking.threshold and 0.1
    kept, moved = masking.masks["1.weight"].clone(), masking.masks["0.weight"].clone()
    with pytest.warns(UserWarning, match=r"layers without a gradient exchange no connections: 1\.weight") as caught:
        for number in range(8):
            random_step(masking, number, but=("1.weight",))
    assert len(caught) == 1
    assert torch.equal(masking.masks["1.weight"], kept)
    assert not torch.equal(masking.masks["0.weight"], moved)
    assert masking.nnz == masking.target_nnz == sum(int(mask.sum()) for mask in masking.masks.values())
