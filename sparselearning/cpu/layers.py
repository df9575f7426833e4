"""Layers whose absent connections are not computed."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sparselearning.cpu import kernels
from sparselearning.cpu.maps import Form, Map
from sparselearning.cpu.plans import Plan, Window, phases, pixels_of, plan
from sparselearning.cpu.vectors import LANES, MOST


class SparseConvolution(nn.Module):
    """A convolution in evaluation that computes its non-zero weights alone, then a ReLU if it is given one.

    Args:
        layer: a convolution that `fits`.
        edge: padding of the map that it makes: that of the convolutions which read it.
    """

    def __init__(self, layer: nn.Conv2d, edge: int = 0) -> None:
        super().__init__()
        weight = layer.weight.detach()
        self.window = Window(tuple(weight.shape), layer.stride, zeros_around(layer) or (0, 0))
        self.least, self.edge = -math.inf, edge  # zero with a ReLU
        self.taps = weight.nonzero().T.numpy()  # output and input channel, row and column of each connection
        self.values = weight[weight != 0].numpy()
        self.bias = (torch.zeros(len(weight)) if layer.bias is None else layer.bias.detach().clone()).numpy()
        self.plans: dict[Form, Plan] = {}

    def extra_repr(self) -> str:
        out, channels, *size = self.window.shape
        stride = self.window.stride
        return f"{channels}, {out}, kernel_size={tuple(size)}, stride={stride}, connections={len(self.values)}"

    def forward(self, x: Map | Tensor, residual: Map | None = None) -> Map:
        """(N, C, H, W) → (N, O, H', W'), added to the residual and in its place if there is one.

        Raises:
            UsageError: the images do not fit the layer.
        """
        if isinstance(x, Tensor):
            x = Map.of(x, max(self.window.padding))
        how = self.plans.get(x.form) or self._planned(x.form)
        if how.phased:
            x = phases(x.tensor(), self.window)
        elif how.read != x.form:
            x = Map.of(x.tensor(), how.read.padding)
        shares = kernels.share_count(-(-len(how.sources) // MOST), len(self.bias))
        out, add = (Map(how.out), False) if residual is None else (residual, True)
        arguments = x.array, how.values, how.offsets, how.starts, how.sources
        if how.targets is not None:
            targets = how.targets if out.form == how.out else pixels_of(out.form)
            kernels.convolve(out.array, out.form.plane, *arguments, targets, self.bias, add, self.least, shares)
        else:
            plane, size = len(how.sources) * LANES, (out.form.height, out.form.width * out.form.n)
            sums, (one, zero) = np.empty(len(self.bias) * plane, np.float32), identity(len(self.bias))
            kernels.convolve(sums, plane, *arguments, how.sources, self.bias, False, -math.inf, shares)
            kernels.transform(*out.place, sums, 0, x.form.row, plane, *size, one, zero, add, self.least)
        return out

    def _planned(self, form: Form) -> Plan:
        if len(self.plans) == 8:
            self.plans.clear()  # many sizes of images
        self.plans[form] = plan(form, self.window, self.taps, self.values, self.edge)
        return self.plans[form]


def fits(module: nn.Module) -> bool:
    """Can it be sparse: a linear layer, or a convolution of dilation 1 in one group with zeros around its input?"""
    if type(module) is nn.Conv2d:
        return module.dilation == (1, 1) and module.groups == 1 and zeros_around(module) is not None
    return type(module) is nn.Linear


def zeros_around(layer: nn.Conv2d) -> tuple[int, int] | None:
    """Of a convolution's input, above and below, and at the left and the right; None: there are others, or no zeros."""
    height, width = layer.kernel_size
    if layer.padding_mode != "zeros" or (layer.padding == "same" and not height % 2 == width % 2 == 1):
        return None
    if isinstance(layer.padding, str):
        return (height // 2, width // 2) if layer.padding == "same" else (0, 0)
    return layer.padding[0], layer.padding[1]


@lru_cache(64)
def identity(channels: int) -> tuple[Any, Any]:
    """Scale and shift that change nothing."""
    return np.ones(channels, np.float32), np.zeros(channels, np.float32)
