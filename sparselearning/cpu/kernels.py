"""The loops of sparse layers on a CPU, in numba: the direct sparse convolution, and what lies between two of them.

A map of activations is an array with `first` floats before the first pixel of a channel, `row` floats between two
rows and `plane` floats between two channels (`maps.Map`). All kernels write into maps or arrays that exist.
"""

from collections.abc import Callable
from types import FunctionType
from typing import Any

import numba
import torch

from sparselearning.cpu.vectors import MOST, sums

INFINITY = float("inf")


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


def share_count(blocks: int, channels: int) -> int:
    """Into how many groups to divide the channels, so that threads that take a group of a block each end together."""
    threads = torch.get_num_threads()
    return 1 if threads == 1 else min(-(-4 * threads // max(blocks, 1)), channels)


@kernel
def convolve(
    out: Any, plane: int, x: Any, values: Any, offsets: Any, starts: Any, in_places: Any, out_places: Any, bias: Any,
    add: bool, least: float, shares: int,
) -> None:  # fmt: skip
    """out[o, out_places[v]] = max(least, bias[o] + Σ_k values[k] · x[offsets[k] + in_places[v]]) for all vectors v.

    The sum is over the connections k of channel o, which stand from starts[i, o] to starts[i, o + 1] for each part i of
    the input channels; parts come one after the other, so that one part of the input stays in the cache.

    Args:
        out, x: float32, read and written 16 floats from each place on.
        values, offsets: float32 and int32 of shape (connections,).
        starts: int64 of shape (parts, channels + 1).
        in_places, out_places: int32 of shape (vectors,).
        bias: float32 of shape (channels,).
        add: to what stands in `out`.
        shares: groups of channels, as a block of vectors and a share of the channels is one thread's task.
    """
    vectors, channels, parts = len(in_places), len(bias), len(starts)
    blocks = (vectors + MOST - 1) // MOST
    for task in numba.prange(blocks * shares):
        block, share = task // shares, task % shares
        start, end = block * vectors // blocks, (block + 1) * vectors // blocks
        sources, targets = in_places.ctypes.data + 4 * start, out_places.ctypes.data + 4 * start
        for part in range(parts):
            floor = least if part == parts - 1 else -INFINITY
            for o in range(share * channels // shares, (share + 1) * channels // shares):
                sums(  # type: ignore[call-arg]
                    end - start, out.ctypes.data + 4 * plane * o, x.ctypes.data, values.ctypes.data,
                    offsets.ctypes.data, starts[part, o], starts[part, o + 1], sources, targets,
                    bias[o] if part == 0 else numba.float32(0), int(add or part > 0), numba.float32(floor),
                )  # fmt: skip


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
def _join(target: Any, source: Any, share: float, mean: bool) -> None:
    """Add a share of the source, or keep the larger of the two; NaN is the largest."""
    if mean:
        for i in range(len(target)):
            target[i] += source[i] * numba.float32(share)
    else:
        for i in range(len(target)):
            target[i] = source[i] if source[i] > target[i] or source[i] != source[i] else target[i]


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
            for i in range(max(top, 0), min(top + window[0], height)):
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
