"""What a value is: in words, and whether a saved state is built like one's own."""

from collections.abc import Mapping

from torch import Tensor


def misfit(saved: object, own: object, where: str = "state") -> str | None:
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


def kind_of(value: object) -> str:
    """What sort of thing a value is, in words."""
    if isinstance(value, Tensor):
        place = "" if value.device.type == "cpu" else f" on {value.device}"
        return f"{str(value.dtype).removeprefix('torch.')} of shape {tuple(value.shape)}{place}"
    if isinstance(value, type):
        return f"the class {value.__name__}"
    name = type(value).__name__
    return "None" if value is None else f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"
