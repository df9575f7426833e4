"""When connections move and how many there are: what a Masking's arguments say, as functions of the step."""

from collections.abc import Mapping, Sequence

from sparselearning import schedules
from sparselearning.distributions import Density, total_count
from sparselearning.errors import UsageError, check_count, check_number, choose
from sparselearning.methods import DROP, GROWTH, METHODS
from sparselearning.phases import Exploration
from sparselearning.validation import check_method

_COUNTS = {"update_frequency": 1, "prune_start": 0, "prune_end": 1, "total_steps": 1, "seed": None}  # the least
_OPTIONAL = ("prune_end", "total_steps")


class Movement:
    """How the connections of a method move.

    Args:
        shapes: of the masked weights, by parameter name; the others as `Masking` has them.

    Attributes:
        step: optimizer steps that really happened.
        target_nnz: round(density · N), the connections that are to be there in the end; `density` is that of the
            network, `first_density` what it starts from.
        window: the steps (first, last) of a phase, the whole run unless set: connections move every ΔT after its first
            and before its last, and p decays over it.

    Raises:
        UsageError: the arguments do not fit each other; the message says what would.
    """

    def __init__(
        self,
        shapes: Mapping[str, Sequence[int]],
        method: str,
        density: Density,
        init_density: float | None,
        update_frequency: int,
        prune_rate: float | None,
        prune_rate_decay: str,
        growth: str | None,
        prune_start: int,
        prune_end: int | None,
        total_steps: int | None,
        seed: int,
    ) -> None:
        self.method = choose("method", method, METHODS)
        check_method(self.method)
        self.shapes = {name: tuple(shape) for name, shape in shapes.items()}
        self.target_nnz = total_count(self.shapes, density)
        whole = total_count(self.shapes, 1.0)
        self.density: float = self.target_nnz / whole if isinstance(density, Mapping) else density
        self.init_density = self.density
        if self.method.pruning is not None:
            self.init_density = self.method.init_density if init_density is None else init_density
        self.first_density: Density = density if isinstance(density, Mapping) else self.init_density
        self.update_frequency = update_frequency
        self.prune_rate = self.method.prune_rate if prune_rate is None else prune_rate
        self.prune_rate_decay = prune_rate_decay
        self.prune_start, self.prune_end = prune_start, prune_end
        self.total_steps, self.window = total_steps, (0, total_steps)
        self.growth = self.method.growth if growth is None or self.method.growth is None else growth
        self.exploration_growth = growth if growth is not None else self.method.growth or "gradient"
        self.seed = seed
        self.step = 0
        self._exploration: Exploration | None = None  # with which the next step begins
        _check_arguments(self, density)

    @property
    def tracks_momentum(self) -> bool:
        """Does a score read the momentum of the dense gradient?"""
        return "momentum" in (self.exploration_growth, self.method.redistribution)

    @property
    def moves(self) -> bool:
        """Does the method move connections by itself, every ΔT steps?"""
        return self.growth is not None or self.method.pruning == "gradual"

    def update_due(self, step: int) -> bool:
        """Is the topology updated after this optimizer step?"""
        if self.method.pruning == "one-shot":
            return step == self.prune_end
        start, end = self.window
        inside = start < step and (end is None or step < end)
        return self.moves and inside and (step - start) % self.update_frequency == 0

    @property
    def reads_gradients(self) -> bool:
        """Will the next optimizer step read gradients where there is no connection?"""
        due = self.growth if self.update_due(self.step + 1) else None
        explored = None if self._exploration is None else self._exploration.growth
        return self.tracks_momentum or not {due, explored} <= {None, "random"}

    def rate_at(self, step: int) -> float:
        """p at a step of the phase."""
        start, end = self.window
        length = None if end is None else end - start
        return schedules.prune_rate(step - start, length, self.prune_rate, self.prune_rate_decay)

    def count_at(self, step: int) -> int:
        """How many connections gradual or one-shot pruning leaves at a step."""
        assert self.prune_end is not None
        start = self.prune_start if self.method.pruning == "gradual" else self.prune_end - 1
        density = schedules.gradual_density(step, start, self.prune_end, self.init_density, self.density)
        return total_count(self.shapes, density)

    def check_exploration(self, rate: float, growth: str, drop: str) -> None:
        """Raises UsageError where the method cannot explore like this."""
        choose("growth", growth, (*GROWTH, "none"))
        choose("drop", drop, DROP)
        check_number("the rate of an exploration", rate, 0, 1)
        if growth == "momentum" and not self.tracks_momentum:
            raise UsageError("momentum is tracked from the start or not at all: give Masking growth='momentum'")
        if drop != "smallest" and self.method.threshold is not None:
            raise UsageError(f"{self.method.title} drops what is below its threshold: the {drop} cannot go")


def _check_arguments(movement: "Movement", density: Density) -> None:
    """Raises UsageError where the arguments do not fit each other; the message says what would."""
    _check_numbers(movement)
    choose("prune_rate_decay", movement.prune_rate_decay, ("constant", "cosine", "linear"))
    if movement.prune_rate_decay != "constant" and movement.total_steps is None:
        raise UsageError(f"prune_rate_decay {movement.prune_rate_decay} needs total_steps, the step at which p is 0")
    choose("growth", movement.exploration_growth, (*GROWTH, "none"))
    if movement.growth == "none":
        raise UsageError(f"growth none would empty {movement.method.title}: choose one of {', '.join(GROWTH)}")
    if isinstance(density, Mapping):
        _check_densities(movement)
    if movement.method.pruning is not None:
        _check_pruning(movement)


def _check_numbers(movement: "Movement") -> None:
    for name, least in _COUNTS.items():
        if (value := getattr(movement, name)) is not None or name not in _OPTIONAL:
            check_count(name, value, least)
    check_number("init_density", movement.init_density)
    check_number("prune_rate", movement.prune_rate, 0, 1)


def _check_densities(movement: "Movement") -> None:
    """Densities by layer stay what they are, or mean nothing."""
    if movement.method.pruning or movement.method.redistribution:
        raise UsageError(f"{movement.method.title} moves connections between layers: give it one density for all")


def _check_pruning(movement: "Movement") -> None:
    """Gradual and one-shot pruning must come to their end."""
    every, title = movement.update_frequency, movement.method.title
    if movement.prune_end is None or movement.prune_start >= movement.prune_end:
        raise UsageError(
            f"{title} prunes: prune_end, the step at which the final density is reached, must be given and lie after "
            f"prune_start"
        )
    if not movement.density <= movement.init_density <= 1:
        raise UsageError(f"init_density {movement.init_density:g} is not between density {movement.density:g} and 1")
    if movement.method.pruning == "one-shot":
        if movement.total_steps is not None and movement.total_steps < movement.prune_end:
            raise UsageError(f"{title} is due to prune at prune_end {movement.prune_end}, after the end of the run")
        return
    if movement.total_steps is None and movement.prune_end < every:
        raise UsageError(
            f"{title} is due at its density at step {movement.prune_end}, before its first topology update at {every}: "
            f"use an update_frequency of {movement.prune_end} or less, or a later prune_end"
        )
    if movement.total_steps is not None:
        last_update = (movement.total_steps - 1) // every * every
        if last_update < movement.prune_end:
            room = movement.total_steps - 1 - movement.prune_end
            remedy = f"an update_frequency of {room} or less" if room > 0 else "an earlier prune_end"
            raise UsageError(
                f"{title} is due at its density at step {movement.prune_end}, but its last topology update is at "
                f"{last_update}: use {remedy}, or a longer run"
            )
