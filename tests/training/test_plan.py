"""Every regime of both papers has the phases that its algorithm gives it, step for step."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from tests.papers import EPOCH, ON_IMAGENET, PLANS, SUP, Row
from utils.command_line.options import REGIMES, CifarOptions, ImageNetOptions
from utils.command_line.parser import parse
from utils.training import plan as regimes
from utils.training.plan import make_plan


def check_plan(recipe: Mapping[str, Any], words: str, epoch: int, rows: list[Row], every: int) -> None:
    """The plan is the rows; learning rates at every so many steps, and at all that begin or end an epoch or a phase."""
    args = parse(recipe, "", words.split())
    plan = make_plan(args, epoch, 128)
    found = [(p.name, p.end - p.start, p.explore and (p.explore.rate, p.explore.drop, p.explore.growth), p.ticket)
             for p in plan]  # fmt: skip
    assert found == [(row.name, row.steps, row.explore, row.ticket) for row in rows]
    if args.sparse:
        assert [phase.updates for phase in plan] == [row.moves for row in rows]
    assert [phase.start for phase in plan] == [0, *(phase.end for phase in plan[:-1])]
    assert plan[-1].end == args.epochs * epoch
    for phase, row in zip(plan, rows, strict=True):
        steps = np.arange(1, row.steps + 1)
        steps = steps[(steps % every == 0) | (steps % epoch < 2) | (steps > row.steps - 2)]
        rates = [phase.lr(i - 1) for i in steps.tolist()]
        np.testing.assert_allclose(rates, row.lr(steps), rtol=1e-9, err_msg=phase.name)


@pytest.mark.parametrize("name", PLANS)
def test_the_phases_of_a_regime_on_cifar(name: str) -> None:
    check_plan(CifarOptions, PLANS[name][0], EPOCH, PLANS[name][1], every=1)


@pytest.mark.parametrize("name", ON_IMAGENET)
def test_the_phases_of_a_regime_on_imagenet(name: str) -> None:
    words, epoch, rows = ON_IMAGENET[name]
    check_plan(ImageNetOptions, words, epoch, rows, every=37)


def test_a_ticket_is_taken_at_the_lowest_learning_rate_of_its_cycle() -> None:
    for words in (SUP, f"{SUP} --cycle-lr fge", f"{SUP} --cycle-lr swa", "--fge", "--snapshot"):
        for phase in make_plan(parse(CifarOptions, "", words.split()), EPOCH, 128):
            if phase.ticket:
                rates = [phase.lr(step) for step in range(phase.end - phase.start)]
                assert rates[-1] == min(rates)


def test_every_regime_of_the_command_line_has_its_plan() -> None:
    assert [*regimes.PLANS] == [*REGIMES]
