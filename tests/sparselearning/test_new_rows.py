"""A method is a row, and so are its scores: what users write beside ours works like ours."""

import pytest
import torch
from torch import Tensor

from sparselearning import DROP, METHODS, Layer, Masking, Method, methods
from tests.exact import check_sparse
from tests.networks import layers, network, random_step, sgd, train


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


def test_a_row_with_gradual_pruning_and_redistribution_shares_by_the_momentum_of_what_pruning_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    row = Method("Both", "erk", growth="gradient", redistribution="momentum", pruning="gradual")
    monkeypatch.setitem(METHODS, "both", row)
    model = layers((16, 16), (16, 8))
    masking = Masking(model, sgd(model, weight_decay=0.0), "both", 0.1, update_frequency=1, prune_end=2)
    momentum = {name: torch.zeros_like(weight) for name, weight in masking.weights.items()}
    for number in range(4):
        gradients = random_step(masking, number)
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
    masking = Masking(
        model, sgd(model, weight_decay=0.0), "static", 0.5, sparse_init={"0.weight": torch.tensor([[1, 1, 1, 0, 0, 0]])}
    )
    model[0].weight.data = torch.tensor([[1.0, 2.0, 3.0, 0.0, 0.0, 0.0]])
    model[0].weight.grad = torch.tensor([[9.0, 0.0, 0.0, 1.0, 0.0, 2.0]])  # scores 5.5, 2, 3
    masking._watch.note()
    masking.update_topology(0.3, "gradient", "mest")
    assert masking.masks["0.weight"].tolist() == [[True, False, True, False, False, True]]
