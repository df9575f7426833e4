"""The one exception that is the caller's to mend."""

from collections.abc import Iterable, Mapping
from typing import Any


class UsageError(ValueError):
    """A mistake in what the caller asked for. The message is one line that names the mistake and the remedy."""


def choose(option: str, value: str, choices: Iterable[str]) -> Any:
    """The row of a table, or the choice itself.

    Raises:
        UsageError: the value is not among the choices.
    """
    if value not in choices:
        raise UsageError(f"{option} {value!r} is unknown: choose one of {', '.join(choices)}")
    return choices[value] if isinstance(choices, Mapping) else value
