"""A sparse convolution in training: forward, and the gradients of its input and of its connections.

All three are sums over connections k = (o, c, tap) of output channel o and input channel c, at many positions together:

    out[o, p]  = bias[o] + Σ weight[k] · x[c, s·p + tap]        over the connections of o
    ∂x[c, q]   = Σ weight[k] · ∂out[o, (q − tap) / s]           over the connections of c whose tap divides
    ∂weight[k] = Σ ∂out[o, p] · x[c, s·p + tap]                 over all positions p
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sparselearning.cpu.kernels import convolve, shares
from sparselearning.cpu.plans import Window, ordered
from sparselearning.cpu.products import multiply
from sparselearning.cpu.tiles import Tiles, empty, whole
from sparselearning.cpu.vectors import LANES, MOST, WHOLE

GROUP = 2**20  # floats of a map that is worked on at once: it is to stay in the last cache


@dataclass(frozen=True)
class Taps:
    """The connections of a convolution, arrays of a number each: which weights they are, and where in memory."""

    out: Any
    channel: Any
    row: Any
    column: Any
    place: Any

    @classmethod
    def of(cls, mask: Tensor, weight: Tensor) -> Taps:
        """Those of a mask, for a weight of its shape (O, C, h, w) that is dense in memory."""
        taps = mask.nonzero().T.numpy()
        return cls(taps[0], taps[1], taps[2], taps[3], weight.stride() @ taps)


@dataclass(frozen=True)
class Pattern:
    """Connections in the order in which a kernel takes them.

    Attributes:
        place: of each in the weight's memory.
        offsets, starts: as `kernels.convolve` takes them.
        sources, targets: places of the vectors that are read and written, of all tiles of a group.
    """

    place: Any
    offsets: Any
    starts: Any
    sources: Any
    targets: Any

    def add_up(self, out: Any, x: Any, weight: Tensor, part: float, bias: Any) -> None:
        """out = bias + Σ weight · x, of the first part of a group's tiles."""
        sources, targets = first(self.sources, part), first(self.targets, part)
        tasks, values = shares(-(-len(sources) // MOST), len(bias)), memory(weight)[self.place]
        convolve(
            out, LANES, x, values, self.offsets, self.starts, sources, targets, bias, False, -math.inf, WHOLE, *tasks
        )  # fmt: skip


class Passes:
    """A convolution's passes over images of shape (C, height, width), forward and backward.

    Raises:
        ValueError: the images do not fit, or are too large for the kernels.
    """

    def __init__(self, taps: Taps, window: Window, image: tuple[int, ...]) -> None:
        channels, height, width = image
        out, high, wide = window.shape[0], *window.made(height, width)
        sides = zip((height, width), (high, wide), window.padding, window.shape[2:], window.stride, strict=True)
        edge = max(max(k - 1 - p, (side - 1 + p) // s - made + 1, 0) for side, made, p, k, s in sides)
        padding = max(window.padding)
        largest = max(Tiles(1, channels, height, width, padding).size, Tiles(1, out, high, wide, edge).size)
        if channels != window.shape[1] or min(high, wide) < 1 or largest >= 2**31:
            raise ValueError(f"images of shape {image} do not fit weights of shape {window.shape}")
        count = max(GROUP // largest, 1)  # of tiles in a group
        self.x, self.dx = (Tiles(count, channels, height, width, around) for around in (padding, 0))
        self.out, self.dout = (Tiles(count, out, high, wide, around) for around in (0, edge))
        self.forth = self._forth(taps, window)
        self.dout_places = self.dout.places(range(edge, edge + high), range(edge, edge + wide))
        downs, acrosses = (range(min(s, side)) for s, side in zip(window.stride, (height, width), strict=True))
        self.back = [self._back(taps, window, top, left) for top in downs for left in acrosses]

    def _forth(self, taps: Taps, window: Window) -> Pattern:
        x, out, (p, q), (s, t) = self.x, self.out, window.padding, window.stride
        within = (taps.row + (x.edge - p)) * x.row + (taps.column + (x.edge - q)) * x.pixel
        sources = x.places(range(0, out.height * s, s), range(0, out.width * t, t))
        channels = out.channels, x.channels
        order, offsets, starts = ordered(channels, LANES, (taps.out, taps.channel, within), sources)
        place = taps.place[order].astype(np.int32)
        return Pattern(place, offsets, starts, sources, out.places(range(out.height), range(out.width)))

    def _back(self, taps: Taps, window: Window, top: int, left: int) -> Pattern:
        """To the pixels (top + i · s, left + j · t) of the input; with a stride, only some of the taps reach them."""
        dx, dout, (s, t) = self.dx, self.dout, window.stride
        down, across = top + window.padding[0] - taps.row, left + window.padding[1] - taps.column
        met = (down % s == 0) & (across % t == 0)
        within = (dout.edge + down // s) * dout.row + (dout.edge + across // t) * dout.pixel
        rows, columns = range(top, dx.height, s), range(left, dx.width, t)
        sources, channels = dout.places(range(len(rows)), range(len(columns))), (dx.channels, dout.channels)
        reached = taps.channel[met], taps.out[met], within[met]
        order, offsets, starts = ordered(channels, LANES, reached, sources)
        place = taps.place[met][order].astype(np.int32)
        return Pattern(place, offsets, starts, sources, dx.places(rows, columns))

    def _groups(self, images: Tensor) -> Iterator[tuple[int, slice]]:
        """How many tiles are worked on at once, and which images these are."""
        tiles = len(images) // LANES
        for start in range(0, tiles, self.x.count):
            count = min(self.x.count, tiles - start)
            yield count, slice(start * LANES, (start + count) * LANES)

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """(n, C, height, width) → (n, O, height', width'), channels_last."""
        images = whole(x)
        made = empty(len(images), self.out.channels, self.out.height, self.out.width)
        summands = np.zeros(len(weight), np.float32) if bias is None else bias.detach().contiguous().numpy()
        for count, group in self._groups(images):
            source, target = (replace(layout, count=count) for layout in (self.x, self.out))
            read, written = _scratch.array("read", source.size), _scratch.array("other", target.size)
            source.load(read, images[group])
            self.forth.add_up(written, read, weight, count / self.x.count, summands)
            target.store(made[group], written)
        return made[: len(x)]

    def backward(
        self, gradient: Tensor, x: Tensor, weight: Tensor, wanted: tuple[bool, bool]
    ) -> tuple[Tensor | None, Tensor | None]:
        """The gradients of input and weight, if they are wanted; that of the weight is zero but for the connections."""
        gradients, images = whole(gradient), whole(x) if wanted[1] else x
        made = empty(len(gradients), self.dx.channels, self.dx.height, self.dx.width) if wanted[0] else None
        products, zeros = np.zeros(len(self.forth.place), np.float32), np.zeros(self.dx.channels, np.float32)
        for count, group in self._groups(gradients):
            dout, part = replace(self.dout, count=count), count / self.x.count
            read = _scratch.array("read", dout.size)
            dout.load(read, gradients[group])
            if wanted[1]:
                self._multiply(products, read, images[group], count)
            if made is not None:
                target = replace(self.dx, count=count)
                written = _scratch.array("other", target.size)
                for pattern in self.back:
                    pattern.add_up(written, read, weight, part, zeros)
                target.store(made[group], written)
        dx = None if made is None else made[: len(x)]
        return dx, self._dense(products, weight) if wanted[1] else None

    def _multiply(self, products: Any, dout: Any, images: Tensor, count: int) -> None:
        """Add a group's part of the gradient of the connections to the products."""
        layout = replace(self.x, count=count)
        read = _scratch.array("other", layout.size)
        layout.load(read, images)
        places = (first(vectors, count / self.x.count) for vectors in (self.dout_places, self.forth.sources))
        _, groups = shares(1, self.out.channels)
        multiply(products, dout, read, self.forth.offsets, self.forth.starts, *places, groups)

    def _dense(self, products: Any, weight: Tensor) -> Tensor:
        """The gradient as a tensor of the weight's form."""
        gradient = torch.empty_strided(weight.shape, weight.stride()).zero_()
        memory(gradient)[self.forth.place] = products
        return gradient


def memory(weight: Tensor) -> Any:
    """The numbers of a tensor that is dense in memory, in the order in which they lie there."""
    return weight.detach().as_strided((weight.numel(),), (1,)).numpy()


def first(places: Any, part: float) -> Any:
    """The places of the first tiles."""
    return places[: round(len(places) * part)]


class _Scratch(threading.local):
    """Memory that is used again and again, so that it stays in the cache."""

    def __init__(self) -> None:
        self.arrays: dict[str, Any] = {}

    def array(self, name: str, size: int) -> Any:
        """A float32 array of at least this size."""
        if name not in self.arrays or len(self.arrays[name]) < size:
            self.arrays[name] = torch.empty(size).numpy()
        return self.arrays[name]


_scratch = _Scratch()
