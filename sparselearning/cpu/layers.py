"""Layers whose absent connections are not computed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sparselearning.cpu import kernels
from sparselearning.cpu.maps import Map, size_of
from sparselearning.cpu.vectors import LANES, MOST
from sparselearning.errors import UsageError

CACHE = 32 * 1024  # bytes of a first-level cache
FEWEST = 20  # connections of an output in a part of the input channels: fewer cost more than a part saves


@dataclass(frozen=True)
class Connections:
    """The weights that are not zero, in the order and by the offsets in which `kernels.convolve` takes them."""

    values: Any
    offsets: Any
    starts: Any


class SparseConvolution(nn.Module):
    """A convolution in evaluation that computes its non-zero weights alone, then a ReLU if it is given one.

    Args:
        layer: a convolution that `fits`.
        relu: whether a ReLU follows.
        edge: padding of the map that it makes: that of the convolutions which read it.
    """

    def __init__(self, layer: nn.Conv2d, relu: bool = False, edge: int = 0) -> None:
        super().__init__()
        weight = layer.weight.detach()
        self.shape, self.stride, self.padding = tuple(weight.shape), layer.stride, zeros_around(layer) or (0, 0)
        self.least, self.edge = (0.0 if relu else -math.inf), edge
        self.taps = weight.nonzero().T.numpy()  # output and input channel, row and column of each connection
        self.values = weight[weight != 0].numpy()
        self.bias = (torch.zeros(len(weight)) if layer.bias is None else layer.bias.detach().clone()).numpy()
        self.phases = min(self.stride[0], self.shape[2]), min(self.stride[1], self.shape[3])
        self.known: dict[tuple[int, ...], Connections] = {}

    def extra_repr(self) -> str:
        out, channels, *window = self.shape
        return f"{channels}, {out}, kernel_size={tuple(window)}, stride={self.stride}, connections={len(self.values)}"

    def forward(self, x: Map | Tensor, residual: Map | None = None) -> Map:
        """(N, C, H, W) → (N, O, H', W'), added to the residual and in its place if there is one.

        Raises:
            UsageError: the images do not fit the layer.
        """
        n, channels, *size = size_of(x)
        window, padding = self.shape[2:], self.padding
        height, width = (
            (side + 2 * p - k) // s + 1 for side, p, k, s in zip(size, padding, window, self.stride, strict=True)
        )
        if channels != self.shape[1] or min(n, height, width) < 1:
            raise UsageError(f"images of shape {tuple(x.shape)} do not fit a layer of weights {self.shape}")
        split = n % LANES != 0 and self.stride != (1, 1)  # a vector has several pixels, which must be neighbors
        if split:
            x = phases(x, self.stride, padding, self.phases)
        elif isinstance(x, Tensor) or x.padding < max(padding):
            x = Map.of(x if isinstance(x, Tensor) else x.tensor(), max(padding))
        if len(x.array) >= 2**31:
            raise UsageError(f"a batch of {n} images of {channels} × {size[0]} × {size[1]} is too large: use fewer")
        step = (1, 1) if split else self.stride
        direct = width * n % LANES == 0
        rows = x.row * step[0], height
        if direct:
            pixels = (step[1] * n, width, n) if n % LANES == 0 else (0, 1, width * n)
            sources = places(0, *rows, *pixels)
        else:
            sources = places(0, 0, 1, 0, 1, x.row * (height - 1) + width * n)
        connections = self._connections(x, split, sources)
        blocks, threads = -(-len(sources) // MOST), torch.get_num_threads()
        shares = 1 if threads == 1 else min(-(-4 * threads // blocks), len(self.bias))
        out = Map.empty(n, self.shape[0], height, width, self.edge) if residual is None else residual
        arguments = (x.array, connections.values, connections.offsets, connections.starts, sources)
        add = residual is not None
        if direct:
            pixels = (n, width, n) if n % LANES == 0 else (0, 1, width * n)
            targets = places(out.first, out.row, height, *pixels)
            kernels.convolve(out.array, out.plane, *arguments, targets, self.bias, add, self.least, shares)
        else:
            plane = len(sources) * LANES
            sums = np.empty(len(self.bias) * plane, np.float32)
            kernels.convolve(sums, plane, *arguments, sources, self.bias, False, -math.inf, shares)
            one, zero = np.ones_like(self.bias), np.zeros_like(self.bias)
            kernels.transform(*out.place, sums, 0, x.row, plane, height, width * n, one, zero, add, self.least)
        return out

    def _connections(self, x: Map, split: bool, sources: Any) -> Connections:
        """Those of the layer for a map of this form; once for each."""
        key = x.n, x.height, x.width, x.padding
        if key not in self.known:
            if len(self.known) == 8:
                self.known.clear()  # many sizes of images
            out, channel, row, column = self.taps
            if split:
                (s, t), (down, across) = self.stride, self.phases
                plane = (channel * down + row % s) * across + column % t
                row, column = row // s, column // t
            else:
                plane, row, column = channel, row + x.padding - self.padding[0], column + x.padding - self.padding[1]
            offsets = plane * x.plane + row * x.row + column * x.n
            parts = self._parts(np.unique(offsets - plane * x.plane), sources)
            part = channel * parts // self.shape[1]
            order = np.lexsort((offsets, out, part))
            cells = (part * len(self.bias) + out)[order]
            ends = np.searchsorted(cells, np.arange(parts * len(self.bias) + 1))
            starts = np.stack([ends[i * len(self.bias) : (i + 1) * len(self.bias) + 1] for i in range(parts)])
            self.known[key] = Connections(self.values[order], offsets[order].astype(np.int32), starts)
        return self.known[key]

    def _parts(self, offsets: Any, sources: Any) -> int:
        """Into how many parts to divide the input channels, so that what a block reads of one stays in the cache."""
        lines = np.unique((sources[:MOST, None] + offsets) // LANES).size
        most = max(CACHE / (4 * LANES * lines), FEWEST * len(self.bias) * self.shape[1] / max(len(self.values), 1))
        return max(round(self.shape[1] / most), 1)


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


@lru_cache(1024)
def places(first: int, row: int, rows: int, pixel: int, pixels: int, length: int) -> Any:
    """Where vectors lie that together are `length` floats of each of `pixels` in each of `rows`, int32."""
    lines, columns, vectors = np.arange(rows) * row, np.arange(pixels) * pixel, np.arange(0, length, LANES)
    together = first + lines[:, None, None] + columns[:, None] + vectors
    return together.reshape(-1).astype(np.int32)


def phases(x: Map | Tensor, stride: tuple[int, ...], padding: tuple[int, int], kept: tuple[int, int]) -> Map:
    """Every s-th row together and every t-th column, for a stride of one.

    Args:
        kept: how many of the s · t phases a window reads, down and across; each is a channel.
    """
    images = x if isinstance(x, Tensor) else x.tensor()
    n, channels, *size = size_of(images)
    rows, columns = (-(-(side + 2 * p) // s) for side, p, s in zip(size, padding, stride, strict=True))
    (p, q), (s, t) = padding, stride
    padded = F.pad(images, (q, columns * t - size[1] - q, p, rows * s - size[0] - p))
    together = padded.reshape(n, channels, rows, s, columns, t)[:, :, :, : kept[0], :, : kept[1]]
    return Map.of(together.permute(0, 1, 3, 5, 2, 4).reshape(n, -1, rows, columns), 0)
