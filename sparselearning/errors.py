"""The one exception that is the caller's to mend, and the checks of single values that raise it."""

from collections.abc import Iterable, Mapping
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


def check_number(option: str, value: Any, kind: type = Real) -> None:
    """Raises UsageError where the value is not a number, or with `Integral` not an integer; a bool is neither."""
    if isinstance(value, bool) or not isinstance(value, kind):
        raise UsageError(f"{option} {shown(value)} is not {'an integer' if kind is Integral else 'a number'}")


def shown(value: Any) -> str:
    """The value as it stands in a message: one line, and a short one."""
    text = " ".join(repr(value).split())
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


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
        fits = (saved.dtype, saved.shape) == (own.dtype, own.shape) and saved.is_meta == own.is_meta
    elif isinstance(own, list) and isinstance(saved, list) and len(own) == len(saved):
        return next(filter(None, (misfit(*pair, where) for pair in zip(saved, own, strict=True))), None)
    else:
        fits = type(saved) is type(own)
    return None if fits else f"{where} is {_kind(saved)}, not {_kind(own)}"


def _kind(value: Any) -> str:
    """What a value is, in words."""
    if not isinstance(value, Tensor):
        return "None" if value is None else type(value).__name__
    place = " without data, on the meta device," if value.is_meta else ""
    return f"{str(value.dtype).removeprefix('torch.')}{place} of shape {tuple(value.shape)}"
