"""Is what was read from a file of the form that a type says?"""

from collections.abc import Mapping
from types import UnionType
from typing import TypeAlias, TypeVar, cast, get_args, get_origin, get_type_hints, is_typeddict

from sparselearning.errors import UsageError

T = TypeVar("T")
Json: TypeAlias = "dict[str, Json] | list[Json] | str | float | bool | None"  # whatever a JSON file may hold


def checked(value: object, kind: type[T], name: str) -> T:
    """The value itself, from here on of its type. Raises UsageError where it is not of its kind, as `mismatch` says."""
    if problem := mismatch(value, kind, name):
        raise UsageError(problem)
    return cast(T, value)  # as has just been found


def mismatch(value: object, kind: object, name: str) -> str | None:
    """Where a value of JSON, YAML or a checkpoint is not of its kind, in words; None: it is.

    Args:
        kind: a class, of which float is a whole number too, and int no bool; object (anything); dict[str, kind] or
            Mapping[str, kind]; list[kind] or tuple[kind, ...], which both are lists; kind | kind; or a TypedDict,
            beside whose keys there may be others.
        name: of the value.
    """
    parts: list[tuple[object, object, str]] = []
    if is_typeddict(kind) and isinstance(value, dict):
        if missing := sorted(getattr(kind, "__required_keys__", frozenset()) - value.keys()):
            return f"{missing[0]!r} is missing"
        parts = [(value[key], hint, key) for key, hint in get_type_hints(kind).items() if key in value]
    elif get_origin(kind) in (dict, Mapping) and isinstance(value, dict):
        key_kind, kind = get_args(kind)
        parts = [(key, key_kind, "a key") for key in value] + [(part, kind, str(key)) for key, part in value.items()]
    elif get_origin(kind) in (list, tuple) and isinstance(value, list):
        parts = [(part, get_args(kind)[0], name) for part in value]
    elif not _is_a(value, kind, name):
        return f"{name} is {value!r:.40}"
    return next(filter(None, (mismatch(*part) for part in parts)), None)


def _is_a(value: object, kind: object, name: str) -> bool:
    if isinstance(kind, UnionType):
        return any(mismatch(value, part, name) is None for part in get_args(kind))
    if is_typeddict(kind) or not isinstance(kind, type):
        return False
    kinds = (int, float) if kind is float else kind
    return isinstance(value, kinds) and not (kind in (int, float) and isinstance(value, bool))
