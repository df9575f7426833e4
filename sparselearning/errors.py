"""The one exception that is the caller's to mend, and the checks of single values that raise it; without torch."""

import math
from collections.abc import Collection, Iterable, Mapping
from numbers import Integral, Real
from typing import TypeVar, overload

T = TypeVar("T")
_LONGEST = 60  # characters of a value in a message


class UsageError(ValueError):
    """A mistake in what the caller asked for. The message is one line that names the mistake and the remedy."""


@overload  # a mapping is the rows themselves, though it is an iterable of names too
def choose(option: str, value: str, choices: Mapping[str, T]) -> T: ...  # type: ignore[overload-overlap]
@overload
def choose(option: str, value: str, choices: Iterable[str]) -> str: ...
def choose(option: str, value: str, choices: Iterable[str]) -> object:
    """The row of a table, or the choice itself.

    Raises:
        UsageError: the value is not among the choices.
    """
    if not isinstance(value, str) or value not in choices:
        raise UsageError(f"{option} {shown(value)} is unknown: choose one of {', '.join(choices)}")
    return choices[value] if isinstance(choices, Mapping) else value


def check_number(option: str, value: object, least: float | None = None, most: float = math.inf) -> None:
    """Raises UsageError where the value is not a number, of at least `least` and at most `most`; a bool is none."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise UsageError(f"{option} {shown(value)} is not a number")
    if least is not None and not least <= float(value) <= most:
        raise UsageError(f"{option} {float(value):g} is not in [{least:g}, {most:g}]")


def check_count(option: str, value: object, least: int | None = None) -> None:
    """Raises UsageError where the value is not an integer, of at least `least`; a bool is none."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise UsageError(f"{option} {shown(value)} is not an integer")
    if least is not None and int(value) < least:
        raise UsageError(f"{option} {value} is not an integer of at least {least}")


def shown(value: object) -> str:
    """The value as it stands in a message: one line, and a short one."""
    text = " ".join(repr(value).split())
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def is_names(value: object) -> bool:
    """Is it a collection of strings, and not a string itself?"""
    return isinstance(value, Collection) and not isinstance(value, str) and all(isinstance(v, str) for v in value)
