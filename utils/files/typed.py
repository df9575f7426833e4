"""Is what was read from a file of the form that a TypedDict says?"""

from typing import Any, get_args, get_origin, get_type_hints, is_typeddict


def mismatch(value: Any, kind: Any, name: str) -> str | None:
    """Where a value of JSON or YAML is not of its kind, in words; None: it is.

    Args:
        kind: str, bool, int, float (which a whole number is too), object (anything), dict[str, kind], list[kind], or a
            TypedDict, beside whose keys there may be others.
        name: of the value.
    """
    parts: list[tuple[Any, Any, str]] = []
    if is_typeddict(kind) and isinstance(value, dict):
        if missing := sorted(kind.__required_keys__ - value.keys()):
            return f"{missing[0]!r} is missing"
        parts = [(value[key], hint, key) for key, hint in get_type_hints(kind).items() if key in value]
    elif get_origin(kind) is dict and isinstance(value, dict):
        parts = [(part, get_args(kind)[1], str(key)) for key, part in value.items()]
    elif get_origin(kind) is list and isinstance(value, list):
        parts = [(part, get_args(kind)[0], name) for part in value]
    elif not _is_a(value, kind):
        return f"{name} is {value!r:.40}"
    return next(filter(None, (mismatch(*part) for part in parts)), None)


def _is_a(value: Any, kind: Any) -> bool:
    if is_typeddict(kind) or not isinstance(kind, type):
        return False
    kinds = (int, float) if kind is float else kind
    return isinstance(value, kinds) and not (kind in (int, float) and isinstance(value, bool))
