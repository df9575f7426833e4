"""What sparse kernels need of the machine and of tensors; numba is not imported here."""

import importlib.util
from collections.abc import Iterable

import torch
from torch import Tensor


def has_numba() -> bool:
    """Is it installed?"""
    return importlib.util.find_spec("numba") is not None


def unsuitable(tensors: Iterable[Tensor]) -> Tensor | None:
    """The first that is not float32 on a CPU."""
    return next((tensor for tensor in tensors if (tensor.dtype, tensor.device.type) != (torch.float32, "cpu")), None)
