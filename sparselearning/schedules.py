"""Schedules: pure functions of the optimizer step, so that they can be plotted, tested and resumed for free."""

import math
from collections.abc import Sequence


def prune_rate(step: int, total_steps: int | None, rate: float, decay: str) -> float:
    """The drop rate p at a step of a phase: `constant`, or to 0 at its end by a `cosine` (RigL) or `linear`ly."""
    if decay == "constant":
        return rate
    assert total_steps is not None
    done = min(step / total_steps, 1.0)
    return rate * (1 + math.cos(math.pi * done)) / 2 if decay == "cosine" else rate * (1 - done)


def gradual_density(step: int, start: int, end: int, initial: float, final: float) -> float:
    """The cubic of gradual magnitude pruning (Zhu & Gupta 2017; GraNet): from `initial` to exactly `final` at `end`."""
    if step >= end:
        return final
    done = max(step - start, 0) / (end - start)
    return final + (initial - final) * (1 - done) ** 3


def step_decay(step: int, base: float, milestones: Sequence[int], warmup: int = 0) -> float:
    """The learning rate of the normal phase: linear warm-up over `warmup` steps, ×0.1 from each milestone on."""
    if step < warmup:
        return base * (step + 1) / warmup
    return base * 0.1 ** sum(step >= milestone for milestone in milestones)


def triangle(step: int, cycle_steps: int, low: float, high: float) -> float:
    """The cycle of Sup-tickets, Eq. 3: low → high → low in one cycle, reaching `low` at the cycle's last step.

    Args:
        step: the optimizer step within the cycle, from 0; i − 1 mod C in the paper's count.
        cycle_steps: C, in optimizer steps.
        low: α₁, the learning rate at which a ticket is taken.
        high: α₂, the peak in the middle of the cycle.
    """
    t = (step % cycle_steps + 1) / cycle_steps
    if t <= 0.5:
        return (1 - 2 * t) * low + 2 * t * high
    return (2 - 2 * t) * high + (2 * t - 1) * low


def fge(step: int, cycle_steps: int, low: float, high: float) -> float:
    """FGE's cycle (Garipov et al. 2018): high → low → high, reaching `low` in the middle."""
    return triangle(step, cycle_steps, high, low)


def swa(step: int, cycle_steps: int, low: float, high: float) -> float:
    """SWA's cycle (Izmailov et al. 2018): at once up to `high`, then down to `low` at the cycle's last step."""
    t = (step % cycle_steps + 1) / cycle_steps
    return (1 - t) * high + t * low


def cosine(step: int, cycle_steps: int, high: float) -> float:
    """Snapshot ensembles' cycle (Huang et al. 2017, Eq. 2): half a cosine from `high` to nearly 0."""
    return high / 2 * (math.cos(math.pi * (step % cycle_steps) / cycle_steps) + 1)
