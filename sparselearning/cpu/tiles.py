"""Activations in training as the kernels read them: in tiles of sixteen images, of which a channel is a vector."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numba
import numpy as np
import torch
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic
from torch import Tensor

from sparselearning.cpu.kernels import kernel
from sparselearning.cpu.vectors import INDEX, LANES, SIZE, VECTOR

SIDE = 4  # of the squares of pixels in which vectors are taken, for neighbors read the same pixels


@dataclass(frozen=True)
class Tiles:
    """The layout of images of shape (16 · count, channels, height, width), float32, with zeros around each.

    In memory a tile is rows of pixels of channels of sixteen images. `edge` rows of zeros lie above and below an image,
    and as many pixels between a row and the next.
    """

    count: int
    channels: int
    height: int
    width: int
    edge: int = 0

    @property
    def pixel(self) -> int:
        """Floats from a pixel to the next: an odd number of vectors, so that neighbors share no set of the cache."""
        return (self.channels | 1) * LANES

    @property
    def row(self) -> int:
        """Floats from a row to the next."""
        return (self.width + self.edge) * self.pixel

    @property
    def tile(self) -> int:
        """Floats from a tile to the next."""
        return (self.height + 2 * self.edge) * self.row

    @property
    def size(self) -> int:
        """Floats in all."""
        return self.count * self.tile + self.edge * self.pixel

    @cached_property
    def form(self) -> tuple[int, ...]:
        """As the kernels take it."""
        return self.count, self.channels, self.height, self.width, self.edge, self.pixel, self.row, self.tile

    def places(self, rows: range, columns: range) -> Any:
        """Where the first channels of these pixels lie in all tiles, counted without the edge: int32, tile by tile."""
        tile, row, column = (axis.ravel() for axis in np.indices((self.count, len(rows), len(columns))))
        order = np.lexsort((column, row, column // SIDE, row // SIDE, tile))
        at = tile * self.tile + np.array(rows)[row] * self.row + np.array(columns)[column] * self.pixel
        return at[order].astype(np.int32)

    def load(self, array: Any, images: Tensor) -> None:
        """Write channels_last images of shape (16 · count, channels, height, width) and their edges into the array."""
        _load(array, pixels(images), *self.form)

    def store(self, images: Tensor, array: Any) -> None:
        """Write the array's pixels into such images."""
        _store(pixels(images), array, *self.form)


def pixels(images: Tensor) -> Any:
    """The numbers of channels_last images as they lie in memory, flat."""
    return images.permute(0, 2, 3, 1).view(-1).numpy()


def whole(images: Tensor) -> Tensor:
    """The images in channels_last, and images of zeros behind them to a multiple of sixteen."""
    missing = -len(images) % LANES
    if not missing:
        return images.contiguous(memory_format=torch.channels_last)
    padded = empty(len(images) + missing, *images.shape[1:])
    padded[: len(images)] = images
    padded[len(images) :] = 0
    return padded


def empty(n: int, channels: int, height: int, width: int) -> Tensor:
    """Images in channels_last, also where torch's strides would not say so (one channel, one pixel)."""
    return torch.empty(n, height, width, channels).permute(0, 3, 1, 2)


@intrinsic
def _turn(typing: Any, source: Any, step: Any, target: Any, pitch: Any) -> Any:
    """target[j · pitch + i] = source[i · step + j] for i, j < 16: addresses, and floats from a vector to the next."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        source, step, target, pitch = arguments

        def address(base: Any, floats: Any, i: int) -> Any:
            far = builder.mul(floats, ir.Constant(SIZE, 4 * i))
            return builder.inttoptr(builder.add(base, far), VECTOR.as_pointer())

        vectors = [builder.load(address(source, step, i), align=4) for i in range(LANES)]
        for half in (8, 4, 2, 1):  # exchange blocks of half the size across the diagonal
            low = [half * 2 * (j // (half * 2)) + j % half for j in range(LANES)]
            upper = [low[j] + (LANES if j % (half * 2) >= half else 0) for j in range(LANES)]
            masks = [ir.Constant(ir.VectorType(INDEX, LANES), [i + more for i in upper]) for more in (0, half)]
            for i in range(LANES):
                if i % (2 * half) < half:
                    pair = vectors[i], vectors[i + half]
                    vectors[i], vectors[i + half] = (builder.shuffle_vector(*pair, mask) for mask in masks)
        for i, vector in enumerate(vectors):
            builder.store(vector, address(target, pitch, i), align=4)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 4), emit


@kernel
def _load(
    out: Any, images: Any, count: int, channels: int, height: int, width: int, edge: int, pixel: int, row: int,
    tile: int,
) -> None:  # fmt: skip
    """Tiles and their edges from images."""
    image, rows = height * width * channels, height + 2 * edge
    for task in numba.prange(count * rows):
        t, r = task // rows, task % rows - edge
        start = t * tile + (r + edge) * row
        if r < 0 or r >= height:
            out[start : start + row] = 0
        else:
            out[start : start + edge * pixel] = 0
            for q in range(width):
                source, target = ((t * LANES * height + r) * width + q) * channels, start + (edge + q) * pixel
                if channels < LANES:
                    for c in range(channels):
                        for i in range(LANES):
                            out[target + c * LANES + i] = images[source + i * image + c]
                else:
                    for block in range((channels + LANES - 1) // LANES):
                        c = min(block * LANES, channels - LANES)
                        _turn(  # type: ignore[call-arg]
                            images.ctypes.data + 4 * (source + c), image, out.ctypes.data + 4 * (target + c * LANES),
                            LANES,
                        )  # fmt: skip
    out[count * tile : count * tile + edge * pixel] = 0


@kernel
def _store(
    images: Any, array: Any, count: int, channels: int, height: int, width: int, edge: int, pixel: int, row: int,
    tile: int,
) -> None:  # fmt: skip
    """Images from tiles without edges."""
    image = height * width * channels
    for task in numba.prange(count * height):
        t, r = task // height, task % height
        for q in range(width):
            source, target = t * tile + r * row + q * pixel, ((t * LANES * height + r) * width + q) * channels
            if channels < LANES:
                for c in range(channels):
                    for i in range(LANES):
                        images[target + i * image + c] = array[source + c * LANES + i]
            else:
                for block in range((channels + LANES - 1) // LANES):
                    c = min(block * LANES, channels - LANES)
                    _turn(  # type: ignore[call-arg]
                        array.ctypes.data + 4 * (source + c * LANES), LANES, images.ctypes.data + 4 * (target + c),
                        image,
                    )  # fmt: skip
