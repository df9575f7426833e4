"""The CIFAR networks of the papers by name: (N, 3, side, side) images in, (N, num_classes) raw logits out.

The command line offers these names, so that torch, which takes a second, is imported by the network that is built.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from sparselearning.errors import UsageError

if TYPE_CHECKING:
    from torch import nn


def vgg16(num_classes: int, width: float) -> nn.Module:
    from models.vgg import VGG16

    return VGG16(num_classes, width)


def resnet50(num_classes: int, width: float) -> nn.Module:
    from models.resnet import resnet50

    return resnet50(num_classes, width)


def wrn28_10(num_classes: int, width: float) -> nn.Module:
    from models.wide_resnet import wrn28_10

    return wrn28_10(num_classes, width)


def resnet20(num_classes: int, width: float) -> nn.Module:
    from models.resnet import resnet20

    return resnet20(num_classes, width)


MODELS: dict[str, Callable[[int, float], nn.Module]] = {
    "vgg16": vgg16,
    "resnet50": resnet50,
    "wrn28-10": wrn28_10,
    "resnet20": resnet20,
}
SMALLEST = {"vgg16": 32}  # pixels of a side, of which five max-pools leave one


def build(name: str, num_classes: int, width: float = 1.0, image_size: int = 32) -> nn.Module:
    """A freshly initialized network, of `width` times the usual channels in every layer.

    Raises:
        UsageError: there is none of this name, or it cannot have this width or take images of this size.
    """
    if name not in MODELS:
        raise UsageError(f"unknown model {name!r}: choose one of {', '.join(MODELS)}")
    if width * 16 < 1:
        raise UsageError(f"width {width:g} leaves layers without a channel: use 0.0625 or more")
    if image_size < SMALLEST.get(name, 1):
        raise UsageError(f"{name} cannot take images of --image-size {image_size}: use {SMALLEST[name]} or more")
    return MODELS[name](num_classes, width)
