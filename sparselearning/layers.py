"""Which weights of a model are masked, and who holds them."""

from collections.abc import Sequence
from fnmatch import fnmatch
from typing import Any

import torch
from torch import Tensor, nn

from sparselearning.errors import UsageError

_MASKABLE = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_BITS = {2: torch.int16, 4: torch.int32, 8: torch.int64}


def unwrap(model: nn.Module) -> nn.Module:
    """The model without the wrappers of DDP and torch.compile, so that its parameters have their plain names."""
    while isinstance(inner := getattr(model, "_orig_mod", None) or getattr(model, "module", None), nn.Module):
        model = inner
    return model


def maskable_weights(model: nn.Module, exempt: Sequence[str] = ()) -> dict[str, nn.Parameter]:
    """The weights of every convolution and linear layer by parameter name; never biases or norm parameters.

    Args:
        exempt: shell patterns of parameter names to leave dense, e.g. "classifier.*".
    """
    weights: dict[str, nn.Parameter] = {}
    for prefix, module in model.named_modules():
        # attention holds its query, key and value projections, a linear layer each, in one parameter
        attribute = "in_proj_weight" if isinstance(module, nn.MultiheadAttention) else "weight"
        weight = getattr(module, attribute, None)
        if isinstance(module, (*_MASKABLE, nn.MultiheadAttention)) and isinstance(weight, nn.Parameter):
            name = f"{prefix}.{attribute}".lstrip(".")
            shared = any(weight is other for other in weights.values())
            if not shared and not any(fnmatch(name, pattern) for pattern in exempt):
                weights[name] = weight
    if not weights:
        raise UsageError("the model has no convolution or linear weights left to mask")
    return weights


def torch_optimizer(optimizer: Any, weights: dict[str, nn.Parameter]) -> torch.optim.Optimizer:
    """The torch optimizer below wrappers such as Accelerate's, checked to hold the weights themselves."""
    while not isinstance(optimizer, torch.optim.Optimizer):
        optimizer = optimizer.optimizer
    held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    for name, weight in weights.items():
        if id(weight) not in held or hasattr(weight, "device_mesh") or hasattr(weight, "ds_id"):
            raise UsageError(
                f"the optimizer does not hold {name} whole: build it on model.parameters() before Masking; FSDP and "
                f"DeepSpeed, which shard weights over processes, are not supported (DDP is)"
            )
    return optimizer


def clear_(tensor: Tensor, mask: Tensor) -> None:
    """Zero outside the mask, in place.

    The product is one of bit patterns as integers: it clears a NaN or an infinity too and leaves no negative zero,
    which a product of floats would not, and takes a quarter of the time of `where`.
    """
    tensor.view(_BITS[tensor.element_size()]).mul_(mask)
