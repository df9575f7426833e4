"""The plan of a run: a list of phases, each with its length, learning rate and what happens at its ends."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise

from sparselearning.errors import UsageError, choose
from sparselearning.schedules import cosine, fge, step_decay, swa, triangle


@dataclass(frozen=True)
class Exploration:
    """One topology update that is large, or of another kind than the method's: the arguments of `Masking.explore`."""

    rate: float
    growth: str | None = None
    drop: str = "smallest"


@dataclass(frozen=True)
class Phase:
    """A stretch of training.

    Attributes:
        name: as it stands in logs, e.g. "cycle 2".
        start, end: optimizer steps of the run, end exclusive.
        lr: the learning rate at a step of the phase, counted from 0.
        updates: do connections move every ΔT steps?
        explore: the one exploration at the start, if any.
        ticket: is the model at the end a ticket?
    """

    name: str
    start: int
    end: int
    lr: Callable[[int], float]
    updates: bool = True
    explore: Exploration | None = None
    ticket: bool = False


def normal_phase(
    epochs: int,
    steps_per_epoch: int,
    lr: float,
    milestones: Sequence[float],
    warmup: float = 0.0,
    parts_of: int | None = None,
) -> Phase:
    """Ordinary sparse training.

    Args:
        milestones: where the learning rate falls by ×0.1, as fractions of the phase; to whole epochs, as in the paper.
        warmup: length of the linear warm-up, as a fraction of the phase; to whole steps, so that a short run has one.
        parts_of: the number of epochs that these are fractions of, where it is not that of the phase.
    """
    whole = parts_of or epochs
    falls = [int(milestone * whole + 1e-9) * steps_per_epoch for milestone in milestones]  # 0.29·100 must be 29
    warmup_steps = round(warmup * whole * steps_per_epoch)
    return Phase("normal", 0, epochs * steps_per_epoch, lambda step: step_decay(step, lr, falls, warmup_steps))


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


@dataclass(frozen=True)
class Cycle:
    """A row of CYCLES.

    Attributes:
        rate: the learning rate at a step of the cycle, from its length and the rates between which it goes.
        ticket_at: the part of the cycle after which the learning rate is lowest, and a ticket is taken.
    """

    rate: Callable[[int, int, float, float], float]
    ticket_at: float = 1.0


CYCLES = {"triangle": Cycle(triangle), "fge": Cycle(fge, ticket_at=0.5), "swa": Cycle(swa)}


def sup_tickets(
    normal: Phase,
    tickets: int,
    cycle_steps: int,
    low: float,
    high: float,
    explorations: Sequence[Exploration | None],
    shape: str = "triangle",
) -> list[Phase]:
    """Algorithm 1: after the normal phase, cycles that explore once, train with the topology fixed, end in a ticket.

    Args:
        low, high: α₁ and α₂, the learning rates between which a cycle goes.
        explorations: with what the cycles begin; they take turns.
        shape: a row of CYCLES. Where the ticket is taken before the end of a cycle, the rise after it is a phase of
            its own.
    """
    cycle: Cycle = choose("cycle_lr", shape, CYCLES)
    to_ticket = max(int(cycle.ticket_at * cycle_steps), 1)

    def course(step: int) -> float:
        return cycle.rate(step, cycle_steps, low, high)

    plan = [normal]
    for j in range(tickets):
        start = normal.end + j * cycle_steps
        lowest, end = start + to_ticket, start + cycle_steps
        explore = explorations[j % len(explorations)]
        plan.append(Phase(f"cycle {j + 1}", start, lowest, course, updates=False, explore=explore, ticket=True))
        if lowest < end:
            plan.append(Phase(f"rise {j + 1}", lowest, end, lambda step: course(step + to_ticket), updates=False))
    return plan


def edst(exploration: Phase, tickets: int, refine_steps: int, lr: float, rate: float) -> list[Phase]:
    """Algorithm 3 of FreeTickets: an exploration phase, then refinements that each end in a ticket.

    Args:
        exploration: t_ex long, at one large learning rate.
        refine_steps: t_re of each refinement: its first half at `lr`, its second at a tenth of it. Connections move
            every ΔT all the way.
        rate: q, of the global exploration by which a refinement escapes from the ticket before it.
    """
    starts = range(exploration.end, exploration.end + tickets * refine_steps, refine_steps)
    return [replace(exploration, name="explore")] + [
        Phase(
            f"refine {j}",
            start,
            start + refine_steps,
            lambda step: step_decay(step, lr, [refine_steps // 2]),
            explore=Exploration(rate) if j > 1 else None,
            ticket=True,
        )
        for j, start in enumerate(starts, 1)
    ]


def snapshot(steps: int, tickets: int, lr: float) -> list[Phase]:
    """Snapshot ensembles (Huang et al. 2017): the whole run in equal cosine cycles from `lr`, a ticket after each.

    Raises:
        UsageError: there are more tickets than steps.
    """
    if tickets > steps:
        raise UsageError(f"{tickets} tickets do not fit: {steps} optimizer steps have room for no more than {steps}")
    ends = [round(steps * j / tickets) for j in range(tickets + 1)]
    return [
        Phase(f"cycle {j}", start, end, partial(cosine, cycle_steps=end - start, high=lr), ticket=True)
        for j, (start, end) in enumerate(pairwise(ends), 1)
    ]


def continued(normal: Phase, steps: int) -> list[Phase]:
    """After the normal phase a second one at its last learning rate; connections move as before."""
    rate = normal.lr(normal.end - 1 - normal.start)
    return [normal, Phase("continue", normal.end, normal.end + steps, lambda step: rate)]


def fine_tuning(normal: Phase, steps: int, lr: float) -> list[Phase]:
    """Pruning and fine-tuning (PF): after the normal phase a second one at a constant learning rate."""
    return [normal, Phase("fine-tune", normal.end, normal.end + steps, lambda step: lr, updates=False)]
