"""The CIFAR networks of the papers by name: (N, 3, side, side) images in, (N, num_classes) raw logits out."""

from collections.abc import Callable

from torch import nn

from models.resnet import resnet20, resnet50
from models.vgg import VGG16
from models.wide_resnet import wrn28_10
from sparselearning.errors import UsageError

MODELS: dict[str, Callable[[int, float], nn.Module]] = {
    "vgg16": VGG16,
    "resnet50": resnet50,
    "wrn28-10": wrn28_10,
    "resnet20": resnet20,
}
SMALLEST = {"vgg16": 32}  # pixels of a side, of which five max-pools leave one


def build(name: str, num_classes: int, width: float = 1.0, image_size: int = 32) -> nn.Module:
    """A freshly initialised network, of `width` times the usual channels in every layer.

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
