"""Every regime of both papers has the phases that its algorithm gives it, at the paper's scale and step for step.

The tables are written from Sup-tickets (Yin et al. 2022), FreeTickets (Liu et al. 2022) and, for the dense ensembles,
Huang et al. 2017 and Garipov et al. 2018. Steps count from 1 here, as i and t do in the papers.
"""

import itertools
import math
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import pytest
import torch
from torch import nn

import utils.training.loop
from models import build
from sparselearning import Masking
from sparselearning.distributions import erk
from sparselearning.layers import maskable_weights
from tests.maskings import masking_of
from utils.command_line.options import CifarOptions, ImageNetOptions
from utils.command_line.parser import parse
from utils.training.costs import Costs
from utils.training.loop import train
from utils.training.plan import make_plan

EPOCH = 391  # steps of 128 images on CIFAR
PHOTOS = 10_009  # on ImageNet
Rates = Callable[[np.ndarray], np.ndarray]  # of the steps of a phase, from 1


class Row(NamedTuple):
    """A phase as a paper describes it; `explore`: rate, what goes, and by which score connections come."""

    name: str
    steps: int
    lr: Rates
    moves: bool = False
    explore: tuple[float, str, str | None] | None = None
    ticket: bool = False


def falls(*after: float, lr: float = 0.1, epoch: int = EPOCH, warmup: int = 0) -> Rates:
    """To a tenth after each of these epochs; a linear rise in the first `warmup` of them."""

    def rates(i: np.ndarray) -> np.ndarray:
        risen = np.minimum(i / (warmup * epoch), 1) if warmup else 1.0
        return lr * risen * 0.1 ** sum((i > e * epoch).astype(int) for e in after) if after else lr * risen + 0 * i

    return rates


def triangle(cycle: int, a1: float, a2: float) -> Rates:
    """Sup-tickets, Eq. 3."""

    def rates(i: np.ndarray) -> np.ndarray:
        t = (np.mod(i - 1, cycle) + 1) / cycle
        return np.where(t <= 0.5, (1 - 2 * t) * a1 + 2 * t * a2, (2 - 2 * t) * a2 + (2 * t - 1) * a1)

    return rates


def sawtooth(cycle: int, a1: float, a2: float) -> Rates:
    """Izmailov et al. 2018: α(i) = (1 - t)·α₁ + t·α₂ from the larger to the smaller, here a2 to a1."""
    return lambda i: (1 - i / cycle) * a2 + i / cycle * a1


def half_cosine(cycle: int, lr: float) -> Rates:
    """Huang et al. 2017, Eq. 2, within a cycle."""
    return lambda i: lr / 2 * (np.cos(np.pi * np.mod(i - 1, cycle) / cycle) + 1)


INHERITED = (0.5, "smallest", None)  # §3.2.1: "we inherit the pruning and growing methods"


def sup(normal: int, cycle: int, tickets: int, drops: tuple[int, int], lr: Rates | None = None,
        explore: tuple[tuple[float, str, str | None], ...] = (INHERITED,)) -> list[Row]:  # fmt: skip
    """Algorithm 1 on CIFAR, Appendix D: the normal phase, then cycles of 8 epochs from 0.001 to 0.005 and back."""
    course = lr or triangle(cycle * EPOCH, 0.001, 0.005)
    turns = itertools.cycle(explore)
    return [Row("normal", normal * EPOCH, falls(*drops), moves=True)] + [
        Row(f"cycle {j}", cycle * EPOCH, course, explore=next(turns), ticket=True) for j in range(1, tickets + 1)
    ]


def valleys(normal: list[Row], half: int, tickets: int, low: float, high: float, explore: Any) -> list[Row]:
    """Garipov et al. 2018: down to the ticket in the middle of a cycle, and up again; t = 1/2 at the ticket."""
    rows = list(normal)
    for j in range(1, tickets + 1):
        rows.append(Row(f"cycle {j}", half, lambda i: high + i / half * (low - high), explore=explore, ticket=True))
        rows.append(Row(f"rise {j}", half, lambda i: low + i / half * (high - low)))
    return rows


def edst(tickets: int, epoch: int, explore: int, refine: int, warmup: int = 0) -> list[Row]:
    """Algorithm 3 and Appendix C: t_ex at 0.1, then M times t_re at 0.01 and at 0.001; between them q = 0.8."""
    first = Row("explore", explore * epoch, falls(warmup=warmup, epoch=epoch), moves=True)
    course = falls(refine / 2, lr=0.01, epoch=epoch)
    q = (0.8, "smallest", None)
    return [first] + [
        Row(f"refine {j}", refine * epoch, course, moves=True, explore=q if j > 1 else None, ticket=True)
        for j in range(1, tickets + 1)
    ]


def snapshots(steps: int, tickets: int) -> list[Row]:
    """B = 200 epochs in M cycles of 0.1; 78,200 steps in 12 are 6,516⅔ each."""
    ends = [round(steps * j / tickets) for j in range(tickets + 1)]
    lengths = [end - start for start, end in itertools.pairwise(ends)]
    assert all(abs(length - steps / tickets) < 1 for length in lengths)
    return [Row(f"cycle {j}", n, half_cosine(n, 0.1), True, None, True) for j, n in enumerate(lengths, 1)]


SUP = "--sparse --sup-tickets"
PAPER = sup(226, 8, 3, (113, 169))
NORMAL_FGE = [Row("normal", 180 * EPOCH, falls(90, 135), moves=True)]
PLAIN = [Row("normal", 250 * EPOCH, falls(125, 187), moves=True)]  # "decayed by 10", at a half and three quarters
PLANS: dict[str, tuple[str, list[Row]]] = {
    "Sup-tickets, Tables 1, 2 and 9": (SUP, PAPER),
    "Sup-tickets, Table 5, C = 2": (f"{SUP} --cycle-epochs 2", sup(226, 2, 12, (113, 169))),
    "Sup-tickets, Table 5, C = 4": (f"{SUP} --cycle-epochs 4", sup(226, 4, 6, (113, 169))),
    "Sup-tickets, Table 5, C = 12": (f"{SUP} --cycle-epochs 12", sup(226, 12, 2, (113, 169))),
    "Sup-tickets, Figure 4, M = 2": (f"{SUP} --num-tickets 2", sup(234, 8, 2, (117, 175))),
    "Sup-tickets, Figure 4, M = 4": (f"{SUP} --num-tickets 4", sup(218, 8, 4, (109, 163))),
    "Sup-tickets, Figure 4, M = 7": (f"{SUP} --num-tickets 7", sup(194, 8, 7, (97, 145))),
    "Sup-tickets, Table 10, N = 6": (f"{SUP} --num-tickets 6 --epochs 274", sup(226, 8, 6, (113, 169))),
    "Sup-tickets, Table 10, N = 9": (f"{SUP} --num-tickets 9 --epochs 298", sup(226, 8, 9, (113, 169))),
    "Sup-tickets, Table 7, FGE": (
        f"{SUP} --cycle-lr fge", valleys(PAPER[:1], 4 * EPOCH, 3, 0.001, 0.005, INHERITED),
    ),
    "Sup-tickets, Table 7, SWA": (
        f"{SUP} --cycle-lr swa", sup(226, 8, 3, (113, 169), sawtooth(8 * EPOCH, 0.001, 0.005)),
    ),
    "Sup-tickets, Table 8": (
        f"{SUP} --cycle-lr swa --lr-high 0.1", sup(226, 8, 3, (113, 169), sawtooth(8 * EPOCH, 0.001, 0.1)),
    ),
    "Sup-tickets, Table 11": (
        f"{SUP} --explore-drop largest smallest smallest --explore-growth gradient random random",
        sup(226, 8, 3, (113, 169), explore=((0.5, "largest", "gradient"), *[(0.5, "smallest", "random")] * 2)),
    ),
    "FreeTickets, Table 1, EDST, M = 3": ("--sparse --edst", edst(3, EPOCH, 150, 100)),
    "FreeTickets, Table 1, EDST, M = 7": ("--sparse --edst --num-tickets 7", edst(7, EPOCH, 150, 100)),
    "FreeTickets, Table 1, EDST, M = 7, in 850 epochs": (
        "--sparse --edst --num-tickets 7 --epochs 850", edst(7, EPOCH, 150, 100),
    ),
    "FreeTickets, Table 6, Snapshot": ("--snapshot", snapshots(200 * EPOCH, 12)),
    "FreeTickets, Table 6, FGE": ("--fge", valleys(NORMAL_FGE, 2 * EPOCH, 5, 0.0005, 0.05, None)),
    "FreeTickets, Table 1, PF": (
        "--sparse --method pf --epochs 500",
        [*PLAIN, Row("fine-tune", 250 * EPOCH, lambda i: 0.001 + 0 * i)],
    ),
    "FreeTickets, Table 1, DST": ("--sparse --ensemble 3", PLAIN),
    "FreeTickets, Table 1, static": ("--sparse --method static --ensemble 3", PLAIN),
    "FreeTickets, Table 1, LTR, before": ("--sparse --method gmp --save-early 0.05", PLAIN),
    "FreeTickets, Table 1, LTR, after": ("--sparse --method static --rewind RUN --ensemble 3", PLAIN),
    "FreeTickets, Table 1, dense": ("--ensemble 4", PLAIN),
}  # fmt: skip
RISE = falls(30, 60, 85, epoch=PHOTOS, warmup=5)
ON_IMAGENET: dict[str, tuple[str, int, list[Row]]] = {
    "Sup-tickets, Table 3": (  # Appendix D: 92 epochs, then 4 cycles of 2 from 1e-4 to 5e-4
        SUP, PHOTOS,
        [Row("normal", 92 * PHOTOS, RISE, moves=True)]
        + [Row(f"cycle {j}", 2 * PHOTOS, triangle(2 * PHOTOS, 1e-4, 5e-4), explore=INHERITED, ticket=True)
           for j in (1, 2, 3, 4)],
    ),
    "FreeTickets, Table 3, EDST, M = 2": (
        "--sparse --edst --num-tickets 2 --epochs 170", PHOTOS, edst(2, PHOTOS, 30, 70, warmup=5),
    ),
    "FreeTickets, Table 3, EDST, M = 4": (
        "--sparse --edst --num-tickets 4", PHOTOS, edst(4, PHOTOS, 30, 70, warmup=5),
    ),
    "FreeTickets, Table 3, DST": (  # Appendix C: batches of 64, 200 epochs, falls at 60, 120 and 180
        "--sparse --epochs 200 --lr-drops 0.3 0.6 0.9 --warmup 0.025 --ensemble 2", 20_018,
        [Row("normal", 200 * 20_018, falls(60, 120, 180, epoch=20_018, warmup=5), moves=True)],
    ),
}  # fmt: skip


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


# ---- when connections really move ------------------------------------------------------------------------------------

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
    run: Any = SimpleNamespace(masking=masking, step=0, batches=batches, wrapped=model, share_statistics=int)

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
    ("recipe", "epoch", "interval"), [(CifarOptions, EPOCH, 1000), (ImageNetOptions, PHOTOS, 4000)]
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


# ---- what that costs -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "density", "training", "inference"),
    [
        ("--sparse --edst", 0.2, 0.61, 1.01),
        ("--sparse --edst --num-tickets 7", 0.1, 0.57, 1.17),
        ("--sparse --ensemble 3", 0.2, 1.01, 1.01),
        ("--sparse --method static --ensemble 3", 0.2, 1.01, 1.01),
    ],
)
def test_costs_are_those_of_freetickets_tables_1_and_6(
    words: str, density: float, training: float, inference: float
) -> None:
    """Wide ResNet28-10 on CIFAR-100 with ERK, of a dense training of 250 epochs."""
    args = parse(CifarOptions, "", f"{words} --density {density}".split())
    with torch.device("meta"):
        model = build("wrn28-10", 100)
    weights = maskable_weights(model)
    active = erk({name: weight.shape for name, weight in weights.items()}, density)
    growth = None if args.method == "static" else "gradient"
    masking: Any = SimpleNamespace(
        active=active, weights=weights, growth=growth, dense_momentum={}, update_frequency=1000
    )
    costs = Costs(model, masking, (3, 32, 32))
    costs.add_step()
    networks = args.ensemble or args.num_tickets
    assert (args.ensemble or 1) * costs.steps["plain"] * args.epochs / 250 == pytest.approx(training, abs=0.006)
    assert networks * costs.test_ratio() == pytest.approx(inference, abs=0.007)
