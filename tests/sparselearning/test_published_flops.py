"""Costs of ImageNet's and CIFAR's networks are those that the papers and their code report."""

import math
from collections.abc import Mapping

import pytest
from torch import Tensor, nn

from sparselearning.flops import Counting, LayerCost, forward_flops, layer_costs, step_flops
from tests.networks import on_meta


def erk(weights: Mapping[str, Tensor], density: float) -> dict[str, float]:
    """Erdős–Rényi-kernel densities, capped at 1, by bisection on the scale that all layers share."""
    wanted = density * sum(w.numel() for w in weights.values())
    raw = {name: sum(w.shape) / w.numel() for name, w in weights.items()}
    low, high = 0.0, 1 / min(raw.values())
    for _ in range(200):
        scale = (low + high) / 2
        total = sum(min(1.0, scale * raw[name]) * w.numel() for name, w in weights.items())
        low, high = (scale, high) if total < wanted else (low, scale)
    return {name: min(1.0, scale * r) for name, r in raw.items()}


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    return {name: p for name, p in model.named_parameters() if p.dim() in (2, 4)}


@pytest.fixture(scope="module")
def imagenet_weights() -> dict[str, Tensor]:
    return weights_of(on_meta("resnet50"))


@pytest.fixture(scope="module")
def imagenet_costs() -> dict[str, LayerCost]:
    return layer_costs(on_meta("resnet50"))


def ratio(costs: Mapping[str, LayerCost], densities: Mapping[str, float], counting: Counting) -> float:
    return forward_flops(costs, densities, counting) / forward_flops(costs, counting=counting)


def test_imagenet_resnet50_dense(imagenet_costs: dict[str, LayerCost]) -> None:
    assert len(imagenet_costs) == 54
    assert forward_flops(imagenet_costs) == 8_178_368_512
    rigl = forward_flops(imagenet_costs, counting="rigl")
    assert rigl == pytest.approx(8.2023e9, abs=5e4)
    samples = 32_000 * 4096
    assert step_flops("dense", rigl, rigl, 100) * samples == pytest.approx(3.2e18, abs=0.05e18)


@pytest.mark.parametrize(
    ("density", "plain", "rigl"),
    [(0.2, 0.4138, 0.4153), (0.1, 0.2418, 0.2431), (0.05, 0.1217, 0.1230), (0.5, 0.7143, None)],
)
def test_imagenet_resnet50_erk_inference(
    imagenet_costs: dict[str, LayerCost],
    imagenet_weights: dict[str, Tensor],
    density: float,
    plain: float,
    rigl: float | None,
) -> None:
    densities = erk(imagenet_weights, density)
    assert ratio(imagenet_costs, densities, "plain") == pytest.approx(plain, abs=5e-5)
    if rigl is not None:
        assert ratio(imagenet_costs, densities, "rigl") == pytest.approx(rigl, abs=5e-5)


@pytest.mark.parametrize(
    ("density", "rigl_100", "rigl_4000", "snfs"),
    [(0.2, 0.4172, 0.4153, 0.610), (0.1, 0.2456, 0.2432, 0.495), (0.05, 0.1259, 0.1231, 0.415)],
)
def test_imagenet_resnet50_erk_training(
    imagenet_costs: dict[str, LayerCost],
    imagenet_weights: dict[str, Tensor],
    density: float,
    rigl_100: float,
    rigl_4000: float,
    snfs: float,
) -> None:
    f_d = forward_flops(imagenet_costs, counting="rigl")
    f_s = forward_flops(imagenet_costs, erk(imagenet_weights, density), "rigl")
    assert step_flops("dense_gradient_at_updates", f_s, f_d, 100) / (3 * f_d) == pytest.approx(rigl_100, abs=5e-5)
    assert step_flops("dense_gradient_at_updates", f_s, f_d, 4000) / (3 * f_d) == pytest.approx(rigl_4000, abs=5e-5)
    assert step_flops("dense_gradient_always", f_s, f_d, 100) / (3 * f_d) == pytest.approx(snfs, abs=5e-4)
    assert step_flops("sparse", f_s, f_d, 100) / (3 * f_d) == pytest.approx(f_s / f_d)


@pytest.mark.parametrize(
    ("density", "distribution", "inference", "training"),
    [
        (0.2, "erk", 0.42, 2.09),
        (0.1, "erk", 0.24, 1.23),
        (0.05, "erk", 0.12, 0.63),
        (0.035, "erk", 0.09, 0.45),
        (0.2, "uniform", 0.23, 1.14),
        (0.1, "uniform", 0.13, 0.66),
        (0.05, "uniform", 0.08, 0.42),
        (0.035, "uniform", 0.07, 0.34),
    ],
)
def test_rigl_readme_costs_of_five_times_longer_training(
    imagenet_costs: dict[str, LayerCost],
    imagenet_weights: dict[str, Tensor],
    density: float,
    distribution: str,
    inference: float,
    training: float,
) -> None:
    if distribution == "erk":
        densities = erk(imagenet_weights, density)
    else:  # the first layer stays dense
        densities = dict.fromkeys(imagenet_weights, density) | {"conv1.weight": 1.0}
    f_d = forward_flops(imagenet_costs, counting="rigl")
    f_s = forward_flops(imagenet_costs, densities, "rigl")
    assert f_s / f_d == pytest.approx(inference, abs=0.005)
    assert 5 * step_flops("dense_gradient_at_updates", f_s, f_d, 100) / (3 * f_d) == pytest.approx(training, abs=0.005)


def test_gradual_pruning_costs_the_mean_over_time(
    imagenet_costs: dict[str, LayerCost], imagenet_weights: dict[str, Tensor]
) -> None:
    """RigL's 0.56× for Zhu & Gupta's pruning to 80 %: updates every 1000 steps from 10,000 to 25,000 of 32,000."""
    f_d = forward_flops(imagenet_costs, counting="rigl")
    steps = []
    for step in range(0, 32_001, 1000):
        progress = min(max((step - 10_000) / 15_000, 0), 1)
        density = 1 - 0.8 * (1 - (1 - progress) ** 3)
        densities = dict.fromkeys(imagenet_weights, density) | {"conv1.weight": 1.0, "fc.weight": 0.2}
        steps.append(step_flops("sparse", forward_flops(imagenet_costs, densities, "rigl"), f_d, 1000))
    assert math.fsum(steps) / len(steps) / (3 * f_d) == pytest.approx(0.56, abs=0.005)


# ---- CIFAR, with ERK -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "classes", "expected"),
    [
        ("vgg16", 10, (0.4200, 0.2204, 0.1126)),
        ("vgg16", 100, (0.4160, 0.2146, 0.1069)),
        ("resnet50", 10, (0.3941, 0.2306, 0.1156)),
        ("resnet50", 100, (0.3851, 0.2247, 0.1136)),
        ("wrn28-10", 10, (0.3396, 0.1686, 0.0854)),
        ("wrn28-10", 100, (0.3374, 0.1663, 0.0828)),
    ],
)
def test_cifar_networks_with_erk(name: str, classes: int, expected: tuple[float, ...]) -> None:
    model = on_meta(name, classes)
    costs = layer_costs(model, (3, 32, 32))
    ratios = [ratio(costs, erk(weights_of(model), density), "plain") for density in (0.2, 0.1, 0.05)]
    assert ratios == pytest.approx(expected, abs=6e-5)


def test_freetickets_costs_of_edst_on_cifar100() -> None:
    """FreeTickets, Table 1: 450 epochs at 80 % cost 0.61 and 850 at 90 % cost 0.57 of 250 dense ones."""
    model = on_meta("wrn28-10", 100)
    costs = layer_costs(model, (3, 32, 32))
    f_d = forward_flops(costs)
    for density, epochs, expected in ((0.2, 450, 0.61), (0.1, 850, 0.57)):
        f_s = forward_flops(costs, erk(weights_of(model), density))
        run = epochs * step_flops("dense_gradient_at_updates", f_s, f_d, 1000)
        assert run / (250 * step_flops("dense", f_d, f_d, 1000)) == pytest.approx(expected, abs=0.006)
