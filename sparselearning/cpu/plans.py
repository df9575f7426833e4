"""How a sparse convolution goes over maps of one form: where it reads and writes, and in which order."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from sparselearning.cpu.maps import Form, Map, size_of
from sparselearning.cpu.vectors import LANES, MOST, NARROW, POOLED, WHOLE
from sparselearning.errors import UsageError

CACHE = 32 * 1024  # bytes of a first-level cache
OF_MAPS = 20 * 1024  # bytes of it for what a block reads of maps, beside its sums and the connections
FEWEST = 20  # connections of an output in a part of the input channels: fewer cost more than the part saves


def _stops(
    size: tuple[int, int], padding: tuple[int, int], window: tuple[int, ...], stride: tuple[int, ...]
) -> tuple[int, int]:
    """How often a window of so many rows and columns fits into padded images, from above and from the left."""
    rows, columns = ((n + 2 * p - k) // s + 1 for n, p, k, s in zip(size, padding, window, stride, strict=True))
    return rows, columns


@dataclass(frozen=True)
class Window:
    """A convolution's geometry."""

    shape: tuple[int, ...]  # of the weight: output and input channels, height and width
    stride: tuple[int, ...]
    padding: tuple[int, int]

    @property
    def phases(self) -> tuple[int, int]:
        """How many of the rows, and of the columns, of a stride the window reads."""
        return min(self.stride[0], self.shape[2]), min(self.stride[1], self.shape[3])

    @property
    def side(self) -> int:
        """Of the squares of outputs that are made together: neighbors read the same inputs if it has several pixels."""
        return 2 if max(self.shape[2:]) > 1 else 1

    def made(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the outputs."""
        return _stops((height, width), self.padding, self.shape[2:], self.stride)


@dataclass(frozen=True)
class Pooling:
    """A pool's geometry: the largest number of each window, or the mean, in which the padding counts as zeros."""

    window: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    mean: bool

    def form(self, given: Form, edge: int) -> Form:
        """That of the map which it makes of one."""
        size = _stops((given.height, given.width), self.padding, self.window, self.stride)
        return Form(given.n, given.channels, *size, edge)


HALVES = Pooling((2, 2), (2, 2), (0, 0), mean=False)  # which the kernel can do


@dataclass(frozen=True)
class Plan:
    """A layer's way from maps of one form to maps of another, in the words of `kernels.convolve`."""

    read: Form
    phased: bool  # the stride is undone before, by `phases`
    sources: Any
    values: Any
    offsets: Any
    starts: Any
    kind: int  # of the blocks
    made: Form  # of the outputs, before a pool
    targets: Any  # in the map that is made; or, if there are `rows`, in an array of the outputs' own
    rows: tuple[int, int] | None  # floats from a row to the next and from a channel to the next of that array; it is
    # for rows that are no whole vectors, and for a pool that the blocks do not do


def plan(given: Form, window: Window, taps: Any, values: Any, edge: int, pool: Pooling | None = None) -> Plan:
    """The plan for maps of the given form.

    Args:
        taps: output channel, input channel, row and column of each connection, of shape (4, connections).
        values: their weights.
        edge: padding of the map that is made.
        pool: what is made of the outputs; None: nothing.

    Raises:
        UsageError: the images do not fit the layer, or are more than its offsets can count.
    """
    n, size = given.n, (given.height, given.width)
    height, width = window.made(*size)
    step: tuple[int, ...] = window.stride
    if given.channels != window.shape[1] or min(n, height, width) < 1:
        raise UsageError(f"images of shape {(n, given.channels, *size)} do not fit weights of shape {window.shape}")
    out, channel, row, column = taps
    lanes = lanes_of(n)
    phased = n % lanes != 0 and window.stride != (1, 1)  # a vector has several pixels, which must be neighbors
    if phased:
        (s, t), (down, across) = window.stride, window.phases
        rows, columns = -(-(given.height + 2 * window.padding[0]) // s), -(-(given.width + 2 * window.padding[1]) // t)
        read, step = Form(n, given.channels * down * across, rows, columns, 0), (1, 1)
        channel, row, column = (channel * down + row % s) * across + column % t, row // s, column // t
    else:
        read = Form(n, given.channels, *size, max(given.padding, *window.padding))
        row, column = row + read.padding - window.padding[0], column + read.padding - window.padding[1]
    if read.size >= 2**31:
        raise UsageError(f"{n} images of {read.channels} × {read.height} × {read.width} are too many at once")
    made = Form(n, window.shape[0], height, width, edge)
    within = row * read.row + column * n
    kind, sources, targets, own = _vectors(made, lanes, window.side, read.row * step[0], n * step[1], pool)
    order, offsets, starts = ordered(
        (made.channels, read.channels), read.plane, (out, channel, within), sources, OF_MAPS
    )
    return Plan(read, phased, sources, values[order], offsets, starts, kind, made, targets, own)


def lanes_of(n: int) -> int:
    """Floats of a vector, for maps of so many images: where none begins at a multiple of its size, narrow ones."""
    return LANES if n % LANES == 0 else LANES // 2


def _vectors(
    made: Form, lanes: int, side: int, row: int, pixel: int, pool: Pooling | None
) -> tuple[int, Any, Any, tuple[int, int] | None]:
    """Kind, sources, targets and rows of a plan; `row` and `pixel` are floats between the sources of two neighbors."""
    kind = WHOLE if lanes == LANES else NARROW
    pooled, length = None if pool is None else pool.form(made, made.padding), made.width * made.n
    if pooled is not None and pool == HALVES and (kind == WHOLE or (made.n == 1 and made.width % (2 * lanes) == 0)):
        fours = Form(made.n, made.channels, 2 * pooled.height, 2 * pooled.width, 0)
        return kind | POOLED, pixels(fours, lanes, 2, 0, row, pixel), pixels_of(pooled, lanes, 1), None
    if length % lanes != 0:
        sources = np.arange(0, row * (made.height - 1) + length, lanes).astype(np.int32)
        return kind, sources, sources, (row, len(sources) * lanes)
    sources = pixels(made, lanes, side, 0, row, pixel)
    if pooled is None:
        return kind, sources, pixels_of(made, lanes, side), None
    return kind, sources, pixels(made, lanes, side, 0, length, made.n), (length, made.height * length + LANES)


def ordered(channels: tuple[int, int], plane: int, taps: Any, sources: Any, cache: int = CACHE) -> tuple[Any, Any, Any]:
    """In which order connections are taken, part by part of the input channels and output by output, and what
    `kernels.convolve` wants to know of them: their offsets and starts.

    A part is so small that what a block of vectors reads of it stays in the cache, for all output channels.

    Args:
        channels: how many there are, of the output and of the input.
        plane: floats from an input channel to the next.
        taps: output channel, input channel, and place within a channel, of each connection.
        sources: places of the vectors.
        cache: bytes for what a block reads of a part.
    """
    (out, channel, within), (outputs, inputs) = taps, channels
    lines = max(np.unique((sources[:MOST, None] + np.unique(within)) // LANES).size, 1)  # of the cache, per channel
    most = max(cache / (4 * LANES * lines), FEWEST * outputs * inputs / max(len(out), 1))
    parts = max(round(inputs / most), 1)
    part, offsets = channel * parts // inputs, channel * plane + within
    cells = (part * outputs + out).astype(np.int32)
    order = np.argsort(cells, kind="stable")  # of a cell in the order of the taps, which is that of their offsets
    ends = np.searchsorted(cells[order], np.arange(parts * outputs + 1))
    starts = np.stack([ends[i * outputs : (i + 1) * outputs + 1] for i in range(parts)])
    return order, offsets[order].astype(np.int32), starts


@lru_cache(256)
def pixels_of(form: Form, lanes: int, side: int) -> Any:
    """Where the vectors of a map's pixels lie."""
    return pixels(form, lanes, side, form.first, form.row, form.n)


def pixels(form: Form, lanes: int, side: int, first: int, row: int, pixel: int) -> Any:
    """Where the vectors lie of as many pixels as the form has, from `first` on, `row` and `pixel` floats apart; int32.

    Where a vector is a part of a row, pixels lie side by side. Squares of `side` rows and columns come one after the
    other.
    """
    whole = form.n % lanes == 0
    columns = np.arange(form.width) * pixel if whole else np.arange(0, form.width * form.n, lanes)
    within = np.arange(0, form.n, lanes) if whole else np.arange(1)
    r, c, v = (axis.ravel() for axis in np.indices((form.height, len(columns), len(within))))
    order = np.lexsort((c, r, v, c // side, r // side))
    return (first + r * row + columns[c] + within[v])[order].astype(np.int32)


def phases(x: Tensor, window: Window) -> Map:
    """Every s-th row together and every t-th column, for a stride of one; (N, C, H, W).

    Those of the s · t phases that a window reads are channels.
    """
    n, channels, *size = size_of(x)
    (p, q), (s, t), (down, across) = window.padding, window.stride, window.phases
    rows, columns = -(-(size[0] + 2 * p) // s), -(-(size[1] + 2 * q) // t)
    padded = F.pad(x, (q, columns * t - size[1] - q, p, rows * s - size[0] - p))
    together = padded.reshape(n, channels, rows, s, columns, t)[:, :, :, :down, :, :across]
    return Map.of(together.permute(0, 1, 3, 5, 2, 4).reshape(n, -1, rows, columns), 0)
