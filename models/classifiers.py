"""Any of torchvision's ImageNet classifiers by name: (N, 3, side, side) images in, (N, num_classes) raw logits out."""

import difflib

import torch
import torchvision
from torch import nn

from sparselearning.errors import UsageError


def build(name: str, num_classes: int, image_size: int) -> nn.Module:
    """A freshly initialised classifier of torchvision.

    Raises:
        UsageError: there is none of this name, or it cannot take images of this size.
    """
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
