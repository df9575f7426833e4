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
from sparselearning.cpu.plans import Plan, Pooling, Window, lanes_of, phases, pixels_of, plan
from sparselearning.cpu.vectors import MOST


class SparseConvolution(nn.Module):
    """A convolution in evaluation that computes its non-zero weights alone, then a ReLU and a pool if it is given them.

    Args:
        layer: a convolution that `fits`.
        edge: padding of the map that it makes: that of the convolutions which read it.
    """

    def __init__(self, layer: nn.Conv2d, edge: int = 0) -> None:
        super().__init__()
        weight = layer.weight.detach()
        self.window = Window(tuple(weight.shape), layer.stride, zeros_around(layer) or (0, 0))
        self.least, self.edge = -math.inf, edge  # zero with a ReLU
        self.pool: Pooling | None = None
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
        form = how.made if self.pool is None else self.pool.form(how.made, self.edge)
        out = Map(form) if residual is None else residual
        if how.rows is None:
            targets = how.targets
            if out.form.padding != self.edge:
                targets = pixels_of(out.form, lanes_of(out.form.n), self.window.side)
            self._convolve(out.array, out.form.plane, x, how, targets, residual is not None, self.least)
            return out
        row, plane = how.rows
        own = torch.empty(len(self.bias) * plane).numpy()
        if self.pool is not None:
            self._convolve(own, plane, x, how, how.targets, False, self.least)
            pool_into(out, self.pool, how.made, (own, 0, row, plane))
        else:
            self._convolve(own, plane, x, how, how.targets, False, -math.inf)
            size, (one, zero) = (out.form.height, out.form.width * out.form.n), identity(len(self.bias))
            kernels.transform(*out.place, own, 0, row, plane, *size, one, zero, residual is not None, self.least)
        return out

    def _convolve(self, out: Any, plane: int, x: Map, how: Plan, targets: Any, add: bool, least: float) -> None:
        tasks = kernels.shares(-(-len(how.sources) // MOST), len(self.bias))
        arguments = x.array, how.values, how.offsets, how.starts, how.sources
        kernels.convolve(out, plane, *arguments, targets, self.bias, add, least, how.kind, *tasks)

    def _planned(self, form: Form) -> Plan:
        if len(self.plans) == 8:
            self.plans.clear()  # many sizes of images
        self.plans[form] = plan(form, self.window, self.taps, self.values, self.edge, self.pool)
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


def pool_into(out: Map, pool: Pooling, form: Form, place: tuple[Any, int, int, int]) -> None:
    """The pool of activations of a form that lie in the place, as the kernels take it."""
    kernels.pool(
        *out.place, *place, form.channels, out.form.height, out.form.width, form.height, form.width, form.n,
        pool.window, pool.stride, pool.padding, pool.mean,
    )  # fmt: skip
