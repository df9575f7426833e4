"""The plan of a run: a list of phases, each with its length, learning rate and what happens at its ends."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sparselearning.errors import UsageError
from sparselearning.schedules import cyclic, step_decay


@dataclass(frozen=True)
class Phase:
    """A stretch of training.

    Attributes:
        name: as it stands in logs, e.g. "cycle 2".
        start, end: optimizer steps of the run, end exclusive.
        lr: the learning rate at a step of the phase, counted from 0.
        updates: do connections move every ΔT steps?
        explore: the rate of the one exploration at the start (0: none).
        ticket: is the model at the end a ticket?
    """

    name: str
    start: int
    end: int
    lr: Callable[[int], float]
    updates: bool = True
    explore: float = 0.0
    ticket: bool = False


def normal_phase(
    epochs: int,
    steps_per_epoch: int,
    lr: float,
    drops: Sequence[float],
    warmup: float = 0.0,
    parts_of: int | None = None,
) -> Phase:
    """Ordinary sparse training.

    Args:
        drops: where the learning rate falls by ×0.1, as fractions of the phase; to whole epochs, as in the paper.
        warmup: length of the linear warm-up, as a fraction of the phase; to whole epochs.
        parts_of: the number of epochs that these are fractions of, where it is not that of the phase.
    """
    whole = parts_of or epochs
    milestones = [int(drop * whole + 1e-9) * steps_per_epoch for drop in drops]  # 0.29·100 must be 29
    warmup_steps = round(warmup * whole) * steps_per_epoch
    return Phase("normal", 0, epochs * steps_per_epoch, lambda step: step_decay(step, lr, milestones, warmup_steps))


def cyclic_epochs(epochs: int, cycle_epochs: int, num_tickets: int | None, fraction: float | None) -> int:
    """The length of the cheap-ticket phase: the fraction of the run (a tenth), rounded down to whole cycles.

    Raises:
        UsageError: no cycle fits, or not as many as asked for; the message says what would.
    """
    part = 0.1 if fraction is None else fraction
    if cycle_epochs < 1 or not 0 < part < 1:
        raise UsageError("cycle_epochs must be at least 1 and ticket_fraction between 0 and 1")
    budget = math.floor(part * epochs + 1e-9)  # 0.7·10 must be 7
    fits = budget // cycle_epochs
    if num_tickets is None:
        if fits == 0:
            enough = math.ceil(100 * cycle_epochs / epochs) / 100
            remedies = [f"cycle_epochs {budget} or less"] if budget else []
            remedies += [f"ticket_fraction {enough}"] if enough < 1 else []
            remedies += [f"{math.ceil(cycle_epochs / part - 1e-9)} epochs or more"]
            raise UsageError(
                f"{budget} of {epochs} epochs are for tickets, but a cycle takes {cycle_epochs}: "
                f"use {', '.join(remedies)}"
            )
        return fits * cycle_epochs
    limit = fits if fraction is not None else (epochs - 1) // cycle_epochs
    if not 1 <= num_tickets <= limit:
        raise UsageError(
            f"{num_tickets} tickets of {cycle_epochs} epochs do not fit: {epochs} epochs have room for "
            f"{f'1 to {limit} tickets' if limit else 'none'} of this length"
        )
    return num_tickets * cycle_epochs


def sup_tickets(normal: Phase, tickets: int, cycle_steps: int, low: float, high: float, rate: float) -> list[Phase]:
    """Algorithm 1: after the normal phase, cycles that explore once, train with the topology fixed, end in a ticket."""
    starts = range(normal.end, normal.end + tickets * cycle_steps, cycle_steps)
    return [normal] + [
        Phase(
            f"cycle {j}",
            start,
            start + cycle_steps,
            lambda step: cyclic(step, cycle_steps, low, high),
            updates=False,
            explore=rate,
            ticket=True,
        )
        for j, start in enumerate(starts, 1)
    ]
