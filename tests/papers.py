"""The phases of every regime of both papers, at the paper's scale.

The tables are written from Sup-tickets (Yin et al. 2022), FreeTickets (Liu et al. 2022) and, for the dense ensembles,
Huang et al. 2017 and Garipov et al. 2018. Steps count from 1 here, as i and t do in the papers.
"""

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

EPOCH = 391  # steps of 128 images on CIFAR
IMAGENET_EPOCH = 10_009  # on ImageNet
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
RISE = falls(30, 60, 85, epoch=IMAGENET_EPOCH, warmup=5)
ON_IMAGENET: dict[str, tuple[str, int, list[Row]]] = {
    "Sup-tickets, Table 3": (  # Appendix D: 92 epochs, then 4 cycles of 2 from 1e-4 to 5e-4
        SUP, IMAGENET_EPOCH,
        [Row("normal", 92 * IMAGENET_EPOCH, RISE, moves=True)]
        + [Row(f"cycle {j}", 2 * IMAGENET_EPOCH, triangle(2 * IMAGENET_EPOCH, 1e-4, 5e-4), explore=INHERITED,
               ticket=True) for j in (1, 2, 3, 4)],
    ),
    "FreeTickets, Table 3, EDST, M = 2": (
        "--sparse --edst --num-tickets 2 --epochs 170", IMAGENET_EPOCH, edst(2, IMAGENET_EPOCH, 30, 70, warmup=5),
    ),
    "FreeTickets, Table 3, EDST, M = 4": (
        "--sparse --edst --num-tickets 4", IMAGENET_EPOCH, edst(4, IMAGENET_EPOCH, 30, 70, warmup=5),
    ),
    "FreeTickets, Table 3, DST": (  # Appendix C: batches of 64, 200 epochs, falls at 60, 120 and 180
        "--sparse --epochs 200 --lr-drops 0.3 0.6 0.9 --warmup 0.025 --ensemble 2", 20_018,
        [Row("normal", 200 * 20_018, falls(60, 120, 180, epoch=20_018, warmup=5), moves=True)],
    ),
}  # fmt: skip
