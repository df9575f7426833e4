"""What Masking refuses before any work is done."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.nn.parameter import is_lazy

from sparselearning.distributions import Density, total_count
from sparselearning.errors import UsageError, check_count, check_number, choose, kind_of, misfit, shown
from sparselearning.methods import DROP, GROWTH, REDISTRIBUTION, Method
from sparselearning.topology import Topology

if TYPE_CHECKING:
    from sparselearning.masking import Masking

_COUNTS = {"update_frequency": 1, "prune_start": 0, "prune_end": 1, "total_steps": 1, "seed": None}  # the least
_OPTIONAL = ("prune_end", "total_steps")
_PRUNING = ("gradual", "one-shot")
_CHANGING = ("exploration", "window")  # parts of a state that are not always of one type

_UNFIT: Sequence[tuple[Callable[[Tensor], bool], str]] = (
    (is_lazy, "is not initialized yet: pass a batch through the lazy model before Masking is built"),
    (lambda weight: weight.is_meta, "has no data, it is on the meta device: build Masking once the weights are there"),
    (lambda weight: not weight.numel(), "is empty: leave its layer out with exempt="),
    (lambda weight: weight.element_size() not in (2, 4, 8), "is of a number type that no optimizer trains"),
)


def check_weights(weights: Mapping[str, Tensor]) -> None:
    """Raises UsageError where weights cannot be masked and trained."""
    for name, weight in weights.items():
        if problem := next((problem for unfit, problem in _UNFIT if unfit(weight)), None):
            raise UsageError(f"{name} {problem}")


def check_method(method: Method) -> None:
    """Raises UsageError where a row of METHODS, which users may have written, cannot work."""
    if not isinstance(method, Method):
        raise UsageError(f"a row of METHODS is {kind_of(method)}, not a sparselearning.Method")
    tables: dict[str, Iterable[str]] = {"growth": GROWTH, "redistribution": REDISTRIBUTION, "pruning": _PRUNING}
    for attribute, table in tables.items():
        if (value := getattr(method, attribute)) is not None:
            choose(attribute, value, table)
    if method.threshold is not None:
        check_number("threshold", method.threshold)
        if not 0 < method.threshold < math.inf:
            raise UsageError(f"threshold {method.threshold:g} is not positive and finite: it could never change")


def check_arguments(masking: "Masking", density: Density, init: str | Mapping[str, Tensor]) -> None:
    """Raises UsageError where the arguments of a Masking do not fit each other; the message says what would."""
    _check_numbers(masking)
    choose("prune_rate_decay", masking.prune_rate_decay, ("constant", "cosine", "linear"))
    if masking.prune_rate_decay != "constant" and masking.total_steps is None:
        raise UsageError(f"prune_rate_decay {masking.prune_rate_decay} needs total_steps, the step at which p is 0")
    choose("growth", masking.exploration_growth, (*GROWTH, "none"))
    if masking.growth == "none":
        raise UsageError(f"growth none would empty {masking.method.title}: choose one of {', '.join(GROWTH)}")
    if isinstance(density, Mapping):
        _check_densities(masking, init)
    if masking.method.pruning is not None:
        _check_pruning(masking)


def _check_numbers(masking: "Masking") -> None:
    for name, least in _COUNTS.items():
        if (value := getattr(masking, name)) is not None or name not in _OPTIONAL:
            check_count(name, value, least)
    check_number("init_density", masking.init_density)
    check_number("prune_rate", masking.prune_rate, 0, 1)


def _check_densities(masking: "Masking", init: str | Mapping[str, Tensor]) -> None:
    """Densities by layer stay what they are, or mean nothing."""
    if masking.method.pruning or masking.method.redistribution:
        raise UsageError(f"{masking.method.title} moves connections between layers: give it one density for all")
    if init == "snip":
        raise UsageError("snip chooses the density of each layer: use sparse_init='snip-layerwise', or one density")


def _check_pruning(masking: "Masking") -> None:
    """Gradual and one-shot pruning must come to their end."""
    every, title = masking.update_frequency, masking.method.title
    if masking.prune_end is None or not 0 <= masking.prune_start < masking.prune_end:
        raise UsageError(
            f"{title} prunes: prune_end, the step at which the final density is reached, must be given and lie after "
            f"prune_start"
        )
    if not masking.density <= masking.init_density <= 1:
        raise UsageError(f"init_density {masking.init_density:g} is not between density {masking.density:g} and 1")
    if masking.method.pruning == "one-shot":
        if masking.total_steps is not None and masking.total_steps < masking.prune_end:
            raise UsageError(f"{title} is due to prune at prune_end {masking.prune_end}, after the end of the run")
        return
    if masking.total_steps is None and masking.prune_end < every:
        raise UsageError(
            f"{title} is due at its density at step {masking.prune_end}, before its first topology update at {every}: "
            f"use an update_frequency of {masking.prune_end} or less, or a later prune_end"
        )
    if masking.total_steps is not None:
        last_update = (masking.total_steps - 1) // every * every
        if last_update < masking.prune_end:
            room = masking.total_steps - 1 - masking.prune_end
            remedy = f"an update_frequency of {room} or less" if room > 0 else "an earlier prune_end"
            raise UsageError(
                f"{title} is due at its density at step {masking.prune_end}, but its last topology update is at "
                f"{last_update}: use {remedy}, or a longer run"
            )


def check_exploration(masking: "Masking", rate: float, growth: str, drop: str) -> None:
    """Raises UsageError where the masking cannot explore like this."""
    choose("growth", growth, (*GROWTH, "none"))
    choose("drop", drop, DROP)
    check_number("the rate of an exploration", rate, 0, 1)
    if growth == "momentum" and not masking.dense_momentum:
        raise UsageError("momentum is tracked from the start or not at all: give Masking growth='momentum'")
    if drop != "smallest" and masking.threshold is not None:
        raise UsageError(f"{masking.method.title} drops what is below its threshold: the {drop} cannot go")


def check_state(masking: "Masking", state: Mapping[str, Any]) -> None:
    """Raises UsageError where a saved state is not one of this model, method and density."""
    own = masking.state_dict()
    if isinstance(state, Mapping):
        saved = {name: state.get(name, own[name]) for name in ("method", "target")}
        if saved != {name: own[name] for name in saved}:
            raise UsageError(
                f"the saved masks are of {saved['method']} with {saved['target']} weights, not of {own['method']} with "
                f"{own['target']}"
            )
        own |= {name: state[name] for name in _CHANGING if name in state}  # None at times
    if problem := misfit(state, own):
        raise UsageError(f"it is of another model or method, or not masking.state_dict() as it was saved: {problem}")
    _check_progress(masking, state)
    active = Topology.of(state["masks"]).active
    nnz, most = sum(active.values()), total_count(masking.shapes, masking.init_density)
    if not masking.target <= nnz <= most:
        raise UsageError(f"the saved masks have {nnz} connections, not {masking.target}: the state was changed")
    if empty := next((name for name, number in active.items() if not number), None):
        raise UsageError(f"the saved masks leave {empty} without a connection: the state was changed")


def check_phase(start: int, end: int | None) -> None:
    """Raises UsageError where these are not the steps at which a phase starts and ends."""
    check_count("the first step of a phase", start, 0)
    if end is not None:
        check_count("the end of a phase", end, start)


def _check_progress(masking: "Masking", state: Mapping[str, Any]) -> None:
    """How far the run has come, and what it is about to do."""
    for name in ("step", "updates", "dropped", "grown"):
        check_count(f"{name} of the saved state", state[name], 0)
    if state["threshold"] is not None:
        check_number("threshold of the saved state", state["threshold"], 0)
    window, due = state["window"], state["exploration"]
    if not isinstance(window, tuple | list) or len(window) != 2:
        raise UsageError(f"window {shown(window)} of the saved state is not a pair of steps")
    check_phase(*window)
    if due is not None:
        if not isinstance(due, tuple | list) or len(due) != 3:
            raise UsageError(f"exploration {shown(due)} of the saved state is not (rate, growth, drop)")
        check_exploration(masking, *due)
