"""What Masking refuses before any work is done."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypedDict, cast

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


class MaskingState(TypedDict):
    """The state of a Masking: everything that the next step depends on and the arguments do not say.

    Attributes:
        method: its title; `target`: the connections that are to be there in the end.
        exploration: with which the next step begins: (rate, growth, drop).
        nonzeros: weights that are not zero, by name.
        explored: like the masks, every connection that ever existed.
        window: the steps (first, last) of the phase.
    """

    method: str
    target: int
    exploration: tuple[float, str, str] | None
    nonzeros: Mapping[str, int]
    masks: Mapping[str, Tensor]
    explored: Mapping[str, Tensor]
    dense_momentum: Mapping[str, Tensor]
    step: int
    updates: int
    dropped: int
    grown: int
    window: tuple[int, int | None]
    threshold: float | None


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


def checked_state(state: Mapping[str, object], own: MaskingState, most: int) -> MaskingState:
    """The saved state itself. Raises UsageError where it is not one of the model, method and density of `own`.

    Args:
        most: connections that there may be; the least are `own["target"]`.
    """
    expected: Mapping[str, object] = own
    if isinstance(state, Mapping):
        method, target = state.get("method", own["method"]), state.get("target", own["target"])
        if (method, target) != (own["method"], own["target"]):
            raise UsageError(
                f"the saved masks are of {method} with {target} weights, not of {own['method']} with {own['target']}"
            )
        expected = {**own, **{name: state[name] for name in _CHANGING if name in state}}  # None at times
    if problem := misfit(state, expected):
        raise UsageError(f"it is of another model or method, or not masking.state_dict() as it was saved: {problem}")
    saved = cast(MaskingState, state)  # as `misfit` has checked, but for what _check_progress looks at
    _check_progress(saved)
    topology = Topology.of(saved["masks"])
    if not own["target"] <= topology.nnz <= most:
        raise UsageError(f"the saved masks have {topology.nnz} connections, not {own['target']}: the state was changed")
    if empty := next((name for name, number in topology.active.items() if not number), None):
        raise UsageError(f"the saved masks leave {empty} without a connection: the state was changed")
    return saved


def check_phase(start: int, end: int | None) -> None:
    """Raises UsageError where these are not the steps at which a phase starts and ends."""
    check_count("the first step of a phase", start, 0)
    if end is not None:
        check_count("the end of a phase", end, start)


def _check_progress(state: MaskingState) -> None:
    """How far the run has come, and what it is about to do."""
    for name, value in state.items():
        if name in ("step", "updates", "dropped", "grown"):
            check_count(f"{name} of the saved state", value, 0)
    if state["threshold"] is not None:
        check_number("threshold of the saved state", state["threshold"], 0)
    window, due = state["window"], state["exploration"]
    if not isinstance(window, tuple | list) or len(window) != 2:
        raise UsageError(f"window {shown(window)} of the saved state is not a pair of steps")
    check_phase(*window)
    if due is not None and (not isinstance(due, tuple | list) or len(due) != 3):
        raise UsageError(f"exploration {shown(due)} of the saved state is not (rate, growth, drop)")
