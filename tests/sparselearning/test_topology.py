"""A topology is one value: its counts belong to its masks in every step, whatever the method's row says."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sparselearning import DROP, METHODS, Exploration, Layer, Masking, Method
from sparselearning.topology import Topology, dropped, dropped_below, grown, pruned


def layers(*shapes: tuple[int, int], seed: int = 0) -> nn.ModuleList:
    torch.manual_seed(seed)
    return nn.ModuleList(nn.Linear(*shape, bias=False) for shape in shapes)


def sgd(model: nn.Module) -> torch.optim.SGD:
    return torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)


def step(masking: Masking, number: int, but: tuple[str, ...] = ()) -> dict[str, Tensor]:
    """One step with gradients of normal numbers, of all layers but these; returns the gradients."""
    rng = torch.Generator().manual_seed(number)
    gradients = {name: torch.randn(weight.shape, generator=rng) for name, weight in masking.weights.items()}
    for name, weight in masking.weights.items():
        weight.grad = None if name in but else gradients[name].clone()
    masking.optimizer.step()
    return gradients


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


def test_a_row_with_gradual_pruning_and_redistribution_shares_by_the_momentum_of_what_pruning_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    row = Method("Both", "erk", growth="gradient", redistribution="momentum", pruning="gradual")
    monkeypatch.setitem(METHODS, "both", row)
    model = layers((16, 16), (16, 8))
    masking = Masking(model, sgd(model), "both", 0.1, update_frequency=1, prune_end=2)
    momentum = {name: torch.zeros_like(weight) for name, weight in masking.weights.items()}
    for number in range(4):
        gradients = step(masking, number)
        for name in momentum:
            momentum[name] = 0.9 * momentum[name] + gradients[name]
        done = masking.step
        density = 0.1 if done >= 2 else 0.1 + 0.9 * (1 - done / 2) ** 3
        assert masking.nnz == sum(int(mask.sum()) for mask in masking.masks.values()) == round(density * 384)
        if done == 1:  # 384 become 82 of 256 + 128: the shares by hand
            fresh = layers((16, 16), (16, 8)).parameters()
            trained = [w - 0.1 * g for w, g in zip(fresh, gradients.values(), strict=True)]
            magnitudes = torch.cat([weight.detach().flatten().abs() for weight in trained])
            keep = magnitudes.argsort(descending=True, stable=True)[:82]
            left = torch.zeros(384, dtype=torch.bool)
            left[keep] = True
            first, second = left[:256].view(16, 16), left[256:].view(8, 16)
            counts = int(first.sum()), int(second.sum())
            lost = [min(-(-count // 2), count - 1) for count in counts]
            means = [float(momentum[n].abs()[m].mean()) for n, m in zip(momentum, (first, second), strict=True)]
            share = sum(lost) * means[0] / sum(means)
            assert masking.active["0.weight"] == pytest.approx(counts[0] - lost[0] + share, abs=1)


def test_a_drop_score_is_a_row_that_may_read_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    """MEST (Yuan et al. 2021): what goes has the smallest |θ| + λ·|gradient|."""

    def mest(layer: Layer) -> Tensor:
        assert layer.gradient is not None
        return layer.weight.abs() + 0.5 * layer.gradient.abs()

    monkeypatch.setitem(DROP, "mest", mest)
    model = layers((6, 1))
    masking = Masking(model, sgd(model), "static", 0.5, sparse_init={"0.weight": torch.tensor([[1, 1, 1, 0, 0, 0]])})
    model[0].weight.data = torch.tensor([[1.0, 2.0, 3.0, 0.0, 0.0, 0.0]])
    model[0].weight.grad = torch.tensor([[9.0, 0.0, 0.0, 1.0, 0.0, 2.0]])  # scores 5.5, 2, 3
    masking._watch.note()
    masking.update_topology(0.3, "gradient", "mest")
    assert masking.masks["0.weight"].tolist() == [[True, False, True, False, False, True]]


# ---- phases ----------------------------------------------------------------------------------------------------------


def test_a_phase_explores_once_at_its_start_and_then_keeps_its_topology() -> None:
    model = layers((20, 20))
    masking = Masking(model, sgd(model), "rigl", 0.2, update_frequency=2)
    changes = []
    for number in range(14):
        if number == 6:
            masking.begin_phase(6, 14, updates=False, explore=Exploration(0.5))
        before = masking.masks["0.weight"].clone()
        step(masking, number)
        changes.append(int((before & ~masking.masks["0.weight"]).sum()))
    assert [number for number, change in enumerate(changes) if change] == [1, 3, 5, 6]  # updates, and one exploration
    masking.begin_phase(6, 14, updates=False, explore=Exploration(0.5))  # a run that goes on within the phase
    assert masking.masks["0.weight"].equal(before)
    step(masking, 14)
    assert masking.masks["0.weight"].equal(before)


# ---- gradients -------------------------------------------------------------------------------------------------------


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
        gradient = step(masking, number)["0.weight"]
        dense.append(float(gradient[masks].norm()))
    assert [outside for _, outside in norms] == [0.0] * 6
    assert [norm for norm, _ in norms] == pytest.approx(dense)


@pytest.mark.parametrize("method", ["set", "rigl", "granet", "snfs", "dsr"])
def test_a_layer_without_a_gradient_keeps_its_connections_with_one_warning(method: str) -> None:
    options: dict[str, Any] = {"prune_end": 2} if method == "granet" else {}
    model = layers((12, 12), (12, 12), (12, 12))
    masking = Masking(model, sgd(model), method, 0.3, update_frequency=2, init_density=0.3, **options)
    masking.threshold = masking.threshold and 0.1
    kept, moved = masking.masks["1.weight"].clone(), masking.masks["0.weight"].clone()
    with pytest.warns(UserWarning, match=r"layers without a gradient exchange no connections: 1\.weight") as caught:
        for number in range(8):
            step(masking, number, but=("1.weight",))
    assert len(caught) == 1
    assert torch.equal(masking.masks["1.weight"], kept)
    assert not torch.equal(masking.masks["0.weight"], moved)
    assert masking.nnz == masking.target_nnz == sum(int(mask.sum()) for mask in masking.masks.values())
