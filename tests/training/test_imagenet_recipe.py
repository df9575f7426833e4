"""The ImageNet recipe at any length: its plan, its masks and its weight decay."""

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import nn

from sparselearning.phases import Exploration
from tests.maskings import masking_of
from tests.tiny import Tiny
from utils.command_line.options import CifarOptions, ImageNetOptions
from utils.command_line.parser import parse
from utils.training.build import make_optimizer
from utils.training.plan import make_plan

CPU = cast(Any, SimpleNamespace(device=torch.device("cpu"), mixed_precision="no"))
SUP = ("--sparse", "--method", "granet", "--density", "0.1", "--sup-tickets")
PER_EPOCH = 20


def recipe(*options: str) -> ImageNetOptions:
    return parse(ImageNetOptions, "", options)


@pytest.mark.parametrize("epochs", [100, 50, 200, 75])
def test_the_plan_of_the_paper_scales_with_the_epochs(epochs: int) -> None:
    normal, *cycles = make_plan(recipe(*SUP, "--epochs", str(epochs)), PER_EPOCH, 128)
    tickets = int(0.08 * epochs) // 2
    assert [(c.end - c.start, c.ticket, c.updates, c.explore) for c in cycles] == [
        (40, True, False, Exploration(0.5))
    ] * tickets
    assert (normal.end, cycles[-1].end) == ((epochs - 2 * tickets) * PER_EPOCH, epochs * PER_EPOCH)
    rates = np.array([normal.lr(step) for step in range(normal.end)])
    warm = round(0.05 * epochs * PER_EPOCH)
    falls = [step for step in range(warm, normal.end) if rates[step] < rates[step - 1]]
    assert falls == [int(part * epochs + 1e-9) * PER_EPOCH for part in (0.3, 0.6, 0.85)]
    assert np.allclose(rates[:warm], 0.1 * np.arange(1, warm + 1) / warm) and rates[warm] == 0.1
    for cycle in cycles:
        course = [cycle.lr(step) for step in range(40)]
        assert (course[-1], max(course)) == (1e-4, 5e-4)


def test_a_run_without_tickets_falls_at_the_same_epochs() -> None:
    (normal,) = make_plan(recipe("--sparse"), PER_EPOCH, 128)
    by_epoch = [normal.lr(epoch * PER_EPOCH) for epoch in range(100)]
    assert [e for e in range(6, 100) if by_epoch[e] < by_epoch[e - 1]] == [30, 60, 85]
    assert normal.end == 100 * PER_EPOCH


def test_the_number_of_tickets_goes_before_the_recipes_fraction() -> None:
    args = recipe(*SUP, "--epochs", "8", "--cycle-epochs", "1", "--num-tickets", "3")
    assert [phase.end for phase in make_plan(args, PER_EPOCH, 128)] == [100, 120, 140, 160]


def test_scale_lr_scales_every_rate_by_the_whole_batch() -> None:
    plain, scaled = (make_plan(recipe(*SUP, *extra), PER_EPOCH, 1024) for extra in ((), ("--scale-lr",)))
    for a, b in zip(plain, scaled, strict=True):
        assert b.lr(25) == pytest.approx(8 * a.lr(25))


@pytest.mark.parametrize(("per_epoch", "frequency"), [(10009, 4000), (20, 92)])
def test_topology_follows_the_paper(per_epoch: int, frequency: int) -> None:
    masking = masking_of(recipe(*SUP), Tiny(10), per_epoch)
    assert (masking.update_frequency, masking.prune_end) == (frequency, 30 * per_epoch)
    assert (masking.prune_rate, masking.prune_rate_decay, masking.total_steps) == (0.5, "cosine", 92 * per_epoch)
    assert (masking.init_density, masking.density) == (0.5, 0.1)


def test_norms_are_exempt_from_weight_decay() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.LayerNorm(4), nn.GroupNorm(2, 4), nn.Linear(4, 2))
    decay = {
        id(p): group["weight_decay"]
        for group in make_optimizer(recipe(), model, CPU).param_groups
        for p in group["params"]
    }
    expected = {"0": 1e-4, "1": 0.0, "2": 0.0, "3": 0.0, "4": 1e-4}
    assert {name: decay[id(p)] for name, p in model.named_parameters()} == {
        f"{i}.{kind}": value for i, value in expected.items() for kind in ("weight", "bias")
    }
    (group,) = make_optimizer(parse(CifarOptions, "", ()), model, CPU).param_groups
    assert group["weight_decay"] == 5e-4
