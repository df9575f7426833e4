"""SNFS moves connections to the layers of the largest momentum, as numpy does by its description."""

import math

import numpy as np
import pytest
import torch

from sparselearning import Masking
from tests.exact import check_sparse
from tests.networks import give_gradients, random_layers, sgd


def shared_out(total: int, share: list[float], room: list[int]) -> list[int]:
    """In proportion, a layer that is full left out; then the largest remainders."""
    ideal = [0.0] * len(share)
    open_ = list(range(len(share)))
    left = total
    while True:
        part = {i: left * share[i] / sum(share[j] for j in open_) for i in open_}
        full = [i for i in open_ if part[i] > room[i]]
        if not full:
            break
        for i in full:
            ideal[i], left = room[i], left - room[i]
            open_.remove(i)
    for i in open_:
        ideal[i] = part[i]
    counts = [math.floor(x) for x in ideal]
    for i in sorted(open_, key=lambda i: counts[i] - ideal[i])[: total - sum(counts)]:
        counts[i] += 1
    return counts


Arrays = list[np.ndarray]


def snfs(weights: Arrays, masks: Arrays, momenta: Arrays, rate: float) -> Arrays:
    """Dettmers & Zettlemoyer 2019, on flat arrays: drop by layer, share out by mean momentum, grow by momentum."""
    kept, lost = [], 0
    for w, mask in zip(weights, masks, strict=True):
        active = np.flatnonzero(mask)
        count = min(math.ceil(rate * len(active) - 1e-9), len(active) - 1)
        gone = active[np.argsort(np.abs(w[active]), kind="stable")[:count]]
        kept.append(mask.copy())
        kept[-1][gone] = False
        lost += count
    share = [max(float(np.abs(m[mask]).mean(dtype=np.float64)), 1e-30) for m, mask in zip(momenta, masks, strict=True)]
    gains = shared_out(lost, share, [int((~mask).sum()) for mask in kept])
    for mask, m, gain in zip(kept, momenta, gains, strict=True):
        free = np.flatnonzero(~mask)
        mask[free[np.argsort(-np.abs(m[free]), kind="stable")[:gain]]] = True
    return kept


@pytest.mark.parametrize("density", [0.1, 0.3, 0.7])
@pytest.mark.parametrize("scales", [(1, 1, 1, 1), (0.1, 1, 5, 1), (1e-6, 100, 1e-6, 1e-6), (0, 0, 1, 0)])
def test_snfs_is_what_numpy_makes_of_its_description(density: float, scales: tuple[float, ...]) -> None:
    model, rng = random_layers(), torch.Generator().manual_seed(1)
    optimizer = sgd(model, momentum=0.0, weight_decay=0.0)
    masking = Masking(model, optimizer, "snfs", density, update_frequency=3, prune_rate=0.4)
    uniform = [density * mask.numel() for mask in masking.masks.values()]
    assert all(abs(mask.sum() - ideal) < 1 for mask, ideal in zip(masking.masks.values(), uniform, strict=True))
    weights = [w.detach().flatten().numpy().copy() for w in model.parameters()]
    masks = [mask.flatten().numpy().copy() for mask in masking.masks.values()]
    momenta = [np.zeros_like(w) for w in weights]
    for step in range(1, 13):
        give_gradients(model, rng, scales)
        gradients = [w.grad.flatten().numpy().copy() for w in model.parameters()]
        optimizer.step()
        for i, gradient in enumerate(gradients):
            momenta[i] = np.float32(0.9) * momenta[i] + gradient
            weights[i] = weights[i] - np.float32(0.1) * gradient * masks[i]
        if step % 3 == 0:
            moved = snfs(weights, masks, momenta, 0.4)
            weights = [w * (old & new) for w, old, new in zip(weights, masks, moved, strict=True)]
            masks = moved
        for mask, weight, own, value in zip(masks, weights, masking.masks.values(), model.parameters(), strict=True):
            assert np.array_equal(own.flatten().numpy(), mask)
            np.testing.assert_allclose(value.detach().flatten().numpy(), weight, rtol=1e-5, atol=1e-6)
        check_sparse(masking, round(density * masking.num_weights))
    assert masking.updates == 4 and masking.dropped == masking.grown > 0


def test_snfs_moves_connections_to_the_layer_of_the_largest_momentum() -> None:
    model, rng = random_layers(), torch.Generator().manual_seed(1)
    optimizer = sgd(model)
    masking = Masking(model, optimizer, "snfs", 0.2, update_frequency=1, prune_rate=0.5)
    before = dict(masking.active)
    give_gradients(model, rng, (1e-3, 1e-3, 1e-3, 1.0))
    optimizer.step()
    gained = {name: masking.active[name] - before[name] for name in before}
    assert gained["3.weight"] > 0 > max(gained[name] for name in ("0.weight", "1.weight"))
    assert min(masking.active.values()) >= 1
