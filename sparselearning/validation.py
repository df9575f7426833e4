"""What Masking refuses before any work is done."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.nn.parameter import is_lazy

from sparselearning.errors import UsageError, check_count, check_number, choose, shown
from sparselearning.kinds import kind_of, misfit
from sparselearning.methods import GROWTH, REDISTRIBUTION, Method
from sparselearning.topology import Topology

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


def check_state(state: Mapping[str, Any], own: dict[str, Any], most: int) -> None:
    """Raises UsageError where a saved state is not one of the model, method and density whose state is `own`.

    Args:
        most: connections that there may be; the least are `own["target"]`.
    """
    if isinstance(state, Mapping):
        saved = {name: state.get(name, own[name]) for name in ("method", "target")}
        if saved != {name: own[name] for name in saved}:
            raise UsageError(
                f"the saved masks are of {saved['method']} with {saved['target']} weights, not of {own['method']} with "
                f"{own['target']}"
            )
        own = own | {name: state[name] for name in _CHANGING if name in state}  # None at times
    if problem := misfit(state, own):
        raise UsageError(f"it is of another model or method, or not masking.state_dict() as it was saved: {problem}")
    _check_progress(state)
    topology = Topology.of(state["masks"])
    if not own["target"] <= topology.nnz <= most:
        raise UsageError(f"the saved masks have {topology.nnz} connections, not {own['target']}: the state was changed")
    if empty := next((name for name, number in topology.active.items() if not number), None):
        raise UsageError(f"the saved masks leave {empty} without a connection: the state was changed")


def check_phase(start: int, end: int | None) -> None:
    """Raises UsageError where these are not the steps at which a phase starts and ends."""
    check_count("the first step of a phase", start, 0)
    if end is not None:
        check_count("the end of a phase", end, start)


def _check_progress(state: Mapping[str, Any]) -> None:
    """How far the run has come, and what it is about to do."""
    for name in ("step", "updates", "dropped", "grown"):
        check_count(f"{name} of the saved state", state[name], 0)
    if state["threshold"] is not None:
        check_number("threshold of the saved state", state["threshold"], 0)
    window, due = state["window"], state["exploration"]
    if not isinstance(window, tuple | list) or len(window) != 2:
        raise UsageError(f"window {shown(window)} of the saved state is not a pair of steps")
    check_phase(*window)
    if due is not None and (not isinstance(due, tuple | list) or len(due) != 3):
        raise UsageError(f"exploration {shown(due)} of the saved state is not (rate, growth, drop)")
