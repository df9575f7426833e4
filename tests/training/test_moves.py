"""When the connections of a regime really move. Steps count from 1 here, as i and t do in the papers."""

import math
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
import torch
from torch import nn

import utils.training.loop
from sparselearning import Masking
from tests.maskings import masking_of
from tests.papers import EPOCH, IMAGENET_EPOCH, PLANS, SUP
from utils.command_line.options import CifarOptions, ImageNetOptions
from utils.command_line.parser import parse
from utils.training.loop import train
from utils.training.plan import make_plan

Move = tuple[int, float, str | None, str]  # in which step, at which rate, by which growth, which go


def moves(words: str, recipe: Mapping[str, Any] = CifarOptions, epoch: int = 10) -> tuple[list[Move], list[int]]:
    """The topology updates of a run of so many steps per epoch, and the connections after every step."""
    torch.manual_seed(0)
    args = parse(recipe, "", words.split())
    phases, model = make_plan(args, epoch, 128), nn.Linear(10, 10)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    masking = masking_of(args, model, epoch, optimizer)
    seen: list[Move] = []
    counts: list[int] = []
    batches = SimpleNamespace(steps=epoch)
    run: Any = SimpleNamespace(masking=masking, step=0, batches=batches, wrapped=model, share_statistics=int,
                               forget_superposed=int)  # fmt: skip

    def to_the_end(run: Any, phase: Any, *_: Any) -> Any:
        while run.step < phase.end:
            model.weight.grad = torch.randn(10, 10)
            optimizer.step()
            run.step += 1
            counts.append(masking.nnz)
        return (0, 0, 0), False, 0

    original = Masking.update_topology

    def noted(masking: Masking, rate: float, growth: str | None, drop: str = "smallest") -> None:
        seen.append((run.step + 1, rate, growth, drop))
        original(masking, rate, growth, drop)

    with (
        mock.patch.object(utils.training.loop, "_train_epoch", to_the_end),
        mock.patch.object(utils.training.loop, "_finish_epoch"),
        mock.patch.object(Masking, "update_topology", noted),
    ):
        for phase in phases:
            train(run, phase, mock.Mock(), mock.Mock())
    assert masking.updates == len(seen)
    return seen, counts


def every(step: int, start: int, end: int, rate: float = 0.5, growth: str = "gradient") -> list[Move]:
    """After each ΔT of a phase, but not at its last step, with no training after."""
    return [(t, rate, growth, "smallest") for t in range(start + step, end, step)]


def test_edst_moves_within_its_phases_and_explores_between_them() -> None:
    """Algorithm 3: t mod ΔT = 0 in each phase; q when a ticket was saved, by the first gradient after it."""
    seen, counts = moves("--sparse --density 0.2 --edst --update-frequency 400")
    first, second, third = every(400, 1500, 2500), every(400, 2500, 3500), every(400, 3500, 4500)
    escape = [(step, 0.8, "gradient", "smallest") for step in (2501, 3501)]
    assert seen == every(400, 0, 1500) + first + escape[:1] + second + escape[1:] + third
    assert set(counts) == {20} and len(counts) == 4500


def test_edst_on_imagenet_starts_the_cosine_of_p_again_in_each_phase() -> None:
    seen, _ = moves("--sparse --density 0.2 --edst --num-tickets 2 --update-frequency 40", ImageNetOptions)
    expected = []
    for start, end in ((0, 300), (300, 1000), (1000, 1700)):
        expected += [(1001, 0.8)] if start == 1000 else []
        expected += [(t, 0.25 * (1 + math.cos(math.pi * (t - start) / (end - start))))
                     for t in range(start + 40, end, 40)]  # fmt: skip
    assert [step for step, *_ in seen] == [step for step, _ in expected]
    assert [rate for _, rate, *_ in seen] == pytest.approx([rate for _, rate in expected])


def test_a_cycle_of_sup_tickets_explores_in_its_first_step_and_moves_nothing_then() -> None:
    seen, counts = moves(f"{SUP} --density 0.2 --update-frequency 100")
    cycles = [(step, 0.5, "gradient", "smallest") for step in (2261, 2341, 2421)]
    assert seen == every(100, 0, 2260) + cycles
    assert set(counts) == {20}


def test_tickets_of_high_variance_change_their_criteria_from_cycle_to_cycle() -> None:
    words = PLANS["Sup-tickets, Table 11"][0]
    seen, _ = moves(f"{words} --density 0.2 --update-frequency 500")
    criteria = [("gradient", "largest"), ("random", "smallest"), ("random", "smallest")]
    assert [(step, *how) for step, _, *how in seen if step > 2260] == [
        (step, *how) for step, how in zip((2261, 2341, 2421), criteria, strict=True)
    ]


def test_swa_of_a_dense_network_prunes_once_before_the_first_average() -> None:
    """Table 21, baseline 1: "train a dense model until the first averaging operation, prune it, then run SWA"."""
    seen, counts = moves(f"{SUP} --method pf --density 0.2 --growth none --cycle-lr swa")
    assert [step for step, *_ in seen] == [2260]
    assert counts == [100] * 2259 + [20] * 241


def test_swa_of_a_sparse_network_never_moves_a_connection() -> None:
    """Table 21, baseline 2."""
    seen, counts = moves(f"{SUP} --method static --density 0.2 --growth none --cycle-lr swa")
    assert seen == [] and counts == [20] * 2500


def test_pf_trains_dense_prunes_once_and_keeps_its_connections() -> None:
    seen, counts = moves("--sparse --method pf --density 0.2 --epochs 500")
    assert [step for step, *_ in seen] == [2500]
    assert counts == [100] * 2499 + [20] * 2501


def test_a_network_of_a_dst_ensemble_moves_in_all_of_its_training() -> None:
    """Algorithm 2."""
    seen, _ = moves("--sparse --density 0.2 --update-frequency 100")
    assert seen == every(100, 0, 2500)


@pytest.mark.parametrize(
    ("recipe", "epoch", "interval"), [(CifarOptions, EPOCH, 1000), (ImageNetOptions, IMAGENET_EPOCH, 4000)]
)
@pytest.mark.parametrize("words", ["--sparse", "--sparse --edst", SUP])
def test_the_interval_between_updates_is_that_of_appendix_c(
    recipe: Mapping[str, Any], epoch: int, interval: int, words: str
) -> None:
    args, model = parse(recipe, "", [*words.split(), "--density", "0.2"]), nn.Linear(10, 10)
    assert masking_of(args, model, epoch).update_frequency == interval


def test_ltr_prunes_gradually_to_its_density_and_stays_there() -> None:
    """Appendix C: gradual magnitude pruning of the dense network; the cubic of Zhu & Gupta from 0 to epoch 110."""
    _, counts = moves("--sparse --method gmp --density 0.2 --update-frequency 100")
    steps = [min(step // 100 * 100, 1100) for step in range(1, 2501)]
    assert counts == [round(100 * (0.2 + 0.8 * (1 - step / 1100) ** 3)) for step in steps]
