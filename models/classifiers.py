"""Any of torchvision's ImageNet classifiers by name: (N, 3, side, side) images in, (N, num_classes) raw logits out."""

import difflib
import functools

import torch
import torchvision
from torch import nn
from torchvision.models.resnet import BasicBlock, Bottleneck

from models.ensembles import Ensemble
from models.members import members_of
from sparselearning.errors import UsageError


class NarrowResNet(torchvision.models.ResNet):
    """A ResNet with `width` times the usual channels in every layer: the Small-Dense baseline of RigL."""

    def __init__(self, block: type[BasicBlock | Bottleneck], layers: list[int], num_classes: int, width: float) -> None:
        self.scale = width
        super().__init__(block, layers, num_classes)
        stem = round(64 * width)
        self.conv1 = nn.Conv2d(3, stem, 7, stride=2, padding=3, bias=False)
        nn.init.kaiming_normal_(self.conv1.weight, mode="fan_out", nonlinearity="relu")
        self.bn1 = nn.BatchNorm2d(stem)
        self.fc = nn.Linear(round(512 * width) * block.expansion, num_classes)

    def _make_layer(
        self, block: type[BasicBlock | Bottleneck], planes: int, blocks: int, stride: int = 1, dilate: bool = False
    ) -> nn.Sequential:
        if planes == 64:  # the first stage follows the stem
            self.inplanes = round(64 * self.scale)
        return super()._make_layer(block, round(planes * self.scale), blocks, stride, dilate)


RESNETS: dict[str, tuple[type[BasicBlock | Bottleneck], list[int]]] = {
    "resnet18": (BasicBlock, [2, 2, 2, 2]),
    "resnet34": (BasicBlock, [3, 4, 6, 3]),
    "resnet50": (Bottleneck, [3, 4, 6, 3]),
}


def build(
    name: str, num_classes: int, image_size: int, width: float = 1.0, ensemble: Ensemble | None = None
) -> nn.Module:
    """A freshly initialized classifier of torchvision, or an efficient ensemble of it, in training mode.

    Raises:
        UsageError: there is none of this name, or it cannot take images of this size or this width.
    """
    make = functools.partial(plain, name, num_classes, image_size, width)
    return make() if ensemble is None else members_of(ensemble, make)


def plain(name: str, num_classes: int, image_size: int, width: float) -> nn.Module:
    """The classifier itself. Raises UsageError as `build`."""
    if width != 1.0:
        if name not in RESNETS or round(64 * width) < 1:
            raise UsageError(f"--width {width:g} is for {', '.join(RESNETS)}, and at least 0.01")
        return NarrowResNet(*RESNETS[name], num_classes, width)
    names = torchvision.models.list_models(module=torchvision.models)
    if name not in names:
        near = difflib.get_close_matches(name, names, 3) or ["resnet50", "vit_b_16", "convnext_tiny"]
        raise UsageError(f"torchvision has no classifier {name!r}: did you mean {', '.join(near)}?")
    options: dict[str, object] = {"num_classes": num_classes}
    if name in ("googlenet", "inception_v3"):
        options |= {"aux_logits": False, "init_weights": True}
    if name.startswith("vit_"):
        options["image_size"] = image_size
    if name.startswith("maxvit_"):
        options["input_size"] = (image_size, image_size)
    try:
        model = torchvision.models.get_model(name, weights=None, **options)
        with torch.no_grad():
            model.eval()(torch.zeros(1, 3, image_size, image_size))
    except (RuntimeError, ValueError, AssertionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UsageError(f"{name} cannot take images of --image-size {image_size}: {reason}") from error
    return model.train()
