"""The loops of sparse layers on a CPU, in numba: the direct sparse convolution, and what lies between two of them.

A map of activations is an array with `first` floats before the first pixel of a channel, `row` floats between two
rows and `plane` floats between two channels (`maps.Map`). All kernels write into maps or arrays that exist.
"""

from collections.abc import Callable
from types import FunctionType
from typing import Any

import numba
import numpy as np
import torch

from sparselearning.cpu.vectors import LANES, MOST, NARROW, POOLED, sums, turn

INFINITY = float("inf")
SHORT = 8  # floats of a row that are pooled one by one


def kernel(loops: Callable[..., None]) -> Callable[..., None]:
    """The compiled loops, their `prange` divided among as many threads as torch has now."""
    serial = numba.njit(nogil=True, cache=True)(loops)
    twin = FunctionType(loops.__code__, loops.__globals__, loops.__name__)
    twin.__qualname__ = f"{loops.__name__}_parallel"  # by which numba's cache on disk tells one from the other
    parallel = numba.njit(nogil=True, cache=True, parallel=True)(twin)

    def run(*arguments: object) -> None:
        threads = min(torch.get_num_threads(), numba.config.NUMBA_NUM_THREADS)  # type: ignore[attr-defined]
        if threads == 1:
            serial(*arguments)
        else:
            numba.set_num_threads(threads)
            parallel(*arguments)

    return run


def shares(blocks: int, channels: int) -> tuple[int, int]:
    """Into how many pieces to divide blocks and channels, so that threads that take a piece of both end together."""
    threads = torch.get_num_threads()
    if threads == 1:
        return 1, 1
    pieces = max(min(blocks, 4 * threads), 1)
    return pieces, min(-(-4 * threads // pieces), channels)


@kernel
def convolve(
    out: Any, plane: int, x: Any, values: Any, offsets: Any, starts: Any, in_places: Any, out_places: Any, bias: Any,
    add: bool, least: float, kind: int, pieces: int, groups: int,
) -> None:  # fmt: skip
    """out[o, out_places[v]] = max(least, bias[o] + Σ_k values[k] · x[offsets[k] + in_places[v]]) for all vectors v.

    The sum is over the connections k of channel o, which stand from starts[i, o] to starts[i, o + 1] for each part i of
    the input channels; parts come one after the other, so that one part of the input stays in the cache. Between them
    the sums of a block of vectors lie side by side.

    Args:
        out, x: float32, read and written 16 floats from each place on, or 8 if the blocks are NARROW.
        values, offsets: float32 and int32 of shape (connections,).
        starts: int64 of shape (parts, channels + 1).
        in_places, out_places: int32 of shape (vectors,); if the blocks are POOLED, there are a fourth as many
            out_places, for the largest of four vectors each.
        bias: float32 of shape (channels,).
        add: to what stands in `out`; not if the blocks are POOLED.
        kind: of the blocks of vectors.
        pieces, groups: of blocks and of channels; a piece for a group is one thread's task.
    """
    channels, parts = len(bias), len(starts)
    joined = 4 if kind & POOLED else 1
    vectors, most = len(out_places), MOST // joined
    blocks = (vectors + most - 1) // most
    for task in numba.prange(pieces * groups):
        piece, group = task // groups, task % groups
        first, last = group * channels // groups, (group + 1) * channels // groups
        between = np.empty((last - first if parts > 1 else 0) * MOST * LANES, np.float32)
        for block in range(piece * blocks // pieces, (piece + 1) * blocks // pieces):
            start, end = block * vectors // blocks, (block + 1) * vectors // blocks
            sources, targets = in_places.ctypes.data + 4 * start * joined, out_places.ctypes.data + 4 * start
            for part in range(parts):
                opens, closes = part == 0, part == parts - 1
                sums(  # type: ignore[call-arg]
                    (kind if closes else kind & NARROW) + (end - start) * joined, first, last, between.ctypes.data,
                    x.ctypes.data, sources, out.ctypes.data, plane, targets, values.ctypes.data, offsets.ctypes.data,
                    starts.ctypes.data + 8 * part * (channels + 1), bias.ctypes.data, int(opens), int(closes), int(add),
                    numba.float32(least),
                )  # fmt: skip


@kernel
def interleave(
    out: Any, first: int, row: int, plane: int, images: Any, n: int, channels: int, height: int, width: int
) -> None:
    """A map's pixels from images of shape (n, channels, height, width), n a multiple of 16, width at least 16."""
    image = channels * height * width
    for task in numba.prange(channels * height):
        c, r = task // height, task % height
        for i in range(0, n, LANES):
            for block in range((width + LANES - 1) // LANES):
                q = min(block * LANES, width - LANES)
                source, target = i * image + task * width + q, first + c * plane + r * row + q * n + i
                turn(  # type: ignore[call-arg]
                    images.ctypes.data + 4 * source, image, out.ctypes.data + 4 * target, n
                )


@kernel
def transform(
    out: Any, out_first: int, out_row: int, out_plane: int, x: Any, first: int, row: int, plane: int, height: int,
    length: int, scale: Any, shift: Any, add: bool, least: float,
) -> None:  # fmt: skip
    """out = max(least, scale[c] · x + shift[c]), of all channels c, or that plus what stands in `out`.

    Args:
        height, length: rows of a channel, and the floats of a row that are read and written.
        scale, shift: float32 of shape (channels,).
    """
    for c in numba.prange(len(scale)):
        factor, summand, floor = scale[c], shift[c], numba.float32(least)
        for r in range(height):
            start, end = c * plane + first + r * row, c * out_plane + out_first + r * out_row
            source, target = x[start : start + length], out[end : end + length]
            for i in range(length):
                value = factor * source[i] + summand
                if add:
                    value += target[i]
                target[i] = floor if value < floor else value


@numba.njit(nogil=True, inline="always")
def _joined(total: Any, value: Any, share: float, mean: bool) -> Any:
    """With a share of the value more, or the larger of the two; NaN is the largest."""
    if mean:
        return total + value * numba.float32(share)
    return value if value > total or value != value else total


@numba.njit(nogil=True, inline="always")
def _join(target: Any, source: Any, share: float, mean: bool) -> None:
    """The same of arrays, into the first."""
    for i in range(len(target)):
        target[i] = _joined(target[i], source[i], share, mean)


@kernel
def pool(
    out: Any, out_first: int, out_row: int, out_plane: int, x: Any, first: int, row: int, plane: int, channels: int,
    out_height: int, out_width: int, height: int, width: int, n: int, window: tuple[int, int], stride: tuple[int, int],
    padding: tuple[int, int], mean: bool,
) -> None:  # fmt: skip
    """The largest value of each window, or the mean, in which the padding counts as zeros."""
    share = 1 / (window[0] * window[1])
    for c in numba.prange(channels):
        for r in range(out_height):
            end = c * out_plane + out_first + r * out_row
            target = out[end : end + out_width * n]
            target[:] = numba.float32(0 if mean else -INFINITY)
            top = r * stride[0] - padding[0]
            rows = range(max(top, 0), min(top + window[0], height))
            if len(target) < SHORT:
                for q in range(len(target)):
                    left, image = q // n * stride[1] - padding[1], q % n
                    for i in rows:
                        for j in range(max(left, 0), min(left + window[1], width)):
                            value = x[c * plane + first + i * row + j * n + image]
                            target[q] = _joined(target[q], value, share, mean)
                continue
            for i in rows:
                start = c * plane + first + i * row
                source = x[start : start + width * n]
                for j in range(-padding[1], window[1] - padding[1]):
                    begin = max(0, (stride[1] - 1 - j) // stride[1])
                    stop = min(out_width, (width - 1 - j) // stride[1] + 1)
                    if n == 1:
                        _join(target[begin:stop], source[begin * stride[1] + j :: stride[1]], share, mean)
                    else:
                        for q in range(begin, stop):
                            left = (q * stride[1] + j) * n
                            _join(target[q * n : q * n + n], source[left : left + n], share, mean)


@kernel
def clear_edges(out: Any, channels: int, plane: int, first: int, row: int, height: int, length: int) -> None:
    """Zeros around the pixels of every channel, and behind the last one."""
    for c in numba.prange(channels):
        channel = out[c * plane : (c + 1) * plane]
        channel[:first] = 0
        for r in range(height - 1):
            channel[first + r * row + length : first + (r + 1) * row] = 0
        channel[first + (height - 1) * row + length :] = 0
    out[channels * plane :] = 0
