"""Which weights of a model are masked, and who holds them."""

import fnmatch
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from sparselearning.errors import UsageError

_MASKABLE = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_ATTENTION = ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight")
_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def unwrap(model: nn.Module) -> nn.Module:
    """The model without the wrappers of DDP and torch.compile, so that its parameters have their plain names."""
    while True:
        if isinstance(model, DistributedDataParallel | nn.DataParallel):
            model = model.module
        elif isinstance(compiled := getattr(model, "_orig_mod", None), nn.Module):
            model = compiled
        else:
            return model


def maskable_weights(model: nn.Module, exempt: Sequence[str] = ()) -> dict[str, nn.Parameter]:
    """The weights of every convolution and linear layer by parameter name; never biases or norm parameters.

    Args:
        exempt: shell patterns of parameter names to leave dense, e.g. "classifier.*".
    """
    weights: dict[str, nn.Parameter] = {}
    for prefix, module in model.named_modules():
        # attention holds its query, key and value projections, a linear layer each, as parameters of its own
        attributes = _ATTENTION if isinstance(module, nn.MultiheadAttention) else ("weight",)
        for attribute in attributes if isinstance(module, (*_MASKABLE, nn.MultiheadAttention)) else ():
            weight = getattr(module, attribute)
            if isinstance(weight, nn.Parameter) and not any(weight is other for other in weights.values()):
                weights[f"{prefix}.{attribute}".lstrip(".")] = weight
    for pattern in exempt:
        if not fnmatch.filter(weights, pattern):
            raise UsageError(
                f"exempt {pattern!r} names no maskable weight: the first are {', '.join(list(weights)[:3])}"
            )
    weights = {name: w for name, w in weights.items() if not any(fnmatch.fnmatch(name, p) for p in exempt)}
    if not weights:
        raise UsageError("the model has no convolution or linear weights left to mask")
    return weights


def torch_optimizer(optimizer: Any, weights: dict[str, nn.Parameter]) -> torch.optim.Optimizer:
    """The torch optimizer below wrappers such as Accelerate's, checked to hold the weights themselves."""
    while not isinstance(optimizer, torch.optim.Optimizer):
        if not hasattr(optimizer, "optimizer"):
            raise UsageError(f"{type(optimizer).__name__} is neither a torch optimizer nor a wrapper of one")
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
