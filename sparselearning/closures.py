"""Optimizers that evaluate the loss themselves, by a closure that is given to their step."""

from collections.abc import Callable
from typing import TypeVar

from sparselearning.errors import UsageError

T = TypeVar("T")


def followed_by(
    closure: Callable[[], T], prepare: Callable[[], None], moves: bool, optimizer: object
) -> Callable[[], T]:
    """The closure, with the gradients prepared after each evaluation.

    Args:
        moves: do connections move in this training? They cannot between two evaluations of one step.

    Raises:
        UsageError: when it is called, a second time where connections move.
    """
    evaluated = False

    def prepared() -> T:
        nonlocal evaluated
        if evaluated and moves:
            raise UsageError(
                f"{type(optimizer).__name__} evaluates the loss several times in a step, between which no "
                f"connections can move: use another optimizer, or a method that moves none"
            )
        evaluated = True
        loss = closure()
        prepare()
        return loss

    return prepared
