"""The one exception that is the caller's to mend, and the checks of single values that raise it."""

import math
from collections.abc import Collection, Iterable, Mapping
from numbers import Integral, Real
from typing import Any

from torch import Tensor

_LONGEST = 60  # characters of a value in a message


class UsageError(ValueError):
    """A mistake in what the caller asked for. The message is one line that names the mistake and the remedy."""


def choose(option: str, value: str, choices: Iterable[str]) -> Any:
    """The row of a table, or the choice itself.

    Raises:
        UsageError: the value is not among the choices.
    """
    if not isinstance(value, str) or value not in choices:
        raise UsageError(f"{option} {shown(value)} is unknown: choose one of {', '.join(choices)}")
    return choices[value] if isinstance(choices, Mapping) else value


def check_number(option: str, value: Any, least: float | None = None, most: float = math.inf) -> None:
    """Raises UsageError where the value is not a number, of at least `least` and at most `most`; a bool is none."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise UsageError(f"{option} {shown(value)} is not a number")
    if least is not None and not least <= float(value) <= most:
        raise UsageError(f"{option} {float(value):g} is not in [{least:g}, {most:g}]")


def check_count(option: str, value: Any, least: int | None = None) -> None:
    """Raises UsageError where the value is not an integer, of at least `least`; a bool is none."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise UsageError(f"{option} {shown(value)} is not an integer")
    if least is not None and int(value) < least:
        raise UsageError(f"{option} {value} is not an integer of at least {least}")


def shown(value: Any) -> str:
    """The value as it stands in a message: one line, and a short one."""
    text = " ".join(repr(value).split())
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def is_names(value: Any) -> bool:
    """Is it a collection of strings, and not a string itself?"""
    return isinstance(value, Collection) and not isinstance(value, str) and all(isinstance(v, str) for v in value)


def misfit(saved: Any, own: Any, where: str = "state") -> str | None:
    """The first place where a saved state is not built like one's own: entries, types, shapes. None: it fits."""
    if isinstance(own, Mapping) and isinstance(saved, Mapping):
        for key in {**own, **saved}:
            if key not in own or key not in saved:
                return f"{where} has {'no' if key in own else 'an unknown'} {key}"
            if problem := misfit(saved[key], own[key], f"{where}, {key}"):
                return problem
        return None
    if isinstance(own, Tensor) and isinstance(saved, Tensor):
        numbers = saved.dtype == own.dtype or (saved.is_floating_point() and own.is_floating_point())
        fits = numbers and saved.shape == own.shape and saved.is_meta == own.is_meta
    elif isinstance(own, list) and isinstance(saved, list) and len(own) == len(saved):
        return next(filter(None, (misfit(*pair, where) for pair in zip(saved, own, strict=True))), None)
    else:
        fits = type(saved) is type(own)
    return None if fits else f"{where} is {kind_of(saved)}, not {kind_of(own)}"


def kind_of(value: Any) -> str:
    """What sort of thing a value is, in words."""
    if isinstance(value, Tensor):
        place = "" if value.device.type == "cpu" else f" on {value.device}"
        return f"{str(value.dtype).removeprefix('torch.')} of shape {tuple(value.shape)}{place}"
    if isinstance(value, type):
        return f"the class {value.__name__}"
    name = type(value).__name__
    return "None" if value is None else f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"
