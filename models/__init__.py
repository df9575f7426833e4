"""The CIFAR networks of the papers by name: (N, 3, side, side) images in, (N, num_classes) raw logits out.

A module of `models/cifar/` is a network of its name: `network(num_classes, width)` makes one, which has a
`smallest_side` where images can be too small for it. The command line offers these names, so that torch, which takes a
second, is imported by the network that is built.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from models.ensembles import Ensemble
from sparselearning.errors import UsageError

if TYPE_CHECKING:
    from torch import nn

PLACE = Path(__file__).parent / "cifar"


def imported(module: str, num_classes: int, width: float) -> nn.Module:
    return import_module(f"models.cifar.{module}").network(num_classes, width)


MODELS: dict[str, Callable[[int, float], nn.Module]] = {
    path.stem.replace("_", "-"): partial(imported, path.stem)
    for path in sorted(PLACE.glob("*.py"))
    if path.stem != "__init__"
}


def build(
    name: str, num_classes: int, width: float = 1.0, image_size: int = 32, ensemble: Ensemble | None = None
) -> nn.Module:
    """A freshly initialized network, of `width` times the usual channels in every layer, or an ensemble of such.

    Raises:
        UsageError: there is none of this name, or it cannot have this width or take images of this size.
    """
    if name not in MODELS:
        raise UsageError(f"unknown model {name!r}: choose one of {', '.join(MODELS)}")
    if width * 16 < 1:
        raise UsageError(f"width {width:g} leaves layers without a channel: use 0.0625 or more")
    make = partial(plain, name, num_classes, width, image_size)
    if ensemble is None:
        return make()
    from models.members import members_of

    return members_of(ensemble, make)


def plain(name: str, num_classes: int, width: float, image_size: int) -> nn.Module:
    """The network itself. Raises UsageError where it cannot take images of this size."""
    model = MODELS[name](num_classes, width)
    smallest = getattr(model, "smallest_side", 1)
    if image_size < smallest:
        raise UsageError(f"{name} cannot take images of --image-size {image_size}: use {smallest} or more")
    return model
