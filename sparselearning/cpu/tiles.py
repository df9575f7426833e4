"""Activations in training as the kernels read them: in tiles of sixteen images, of which a channel is a vector."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor

from sparselearning.cpu.kernels import kernel
from sparselearning.cpu.vectors import LANES, turn

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
        _copy(array, pixels(images), True, *self.form)

    def store(self, images: Tensor, array: Any) -> None:
        """Write the array's pixels into such images."""
        _copy(array, pixels(images), False, *self.form)


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


@kernel
def _copy(
    array: Any, images: Any, load: bool, count: int, channels: int, height: int, width: int, edge: int, pixel: int,
    row: int, tile: int,
) -> None:  # fmt: skip
    """Tiles and their edges from images, or images from tiles."""
    image, rows = height * width * channels, height + 2 * edge
    for task in numba.prange(count * rows):
        t, r = task // rows, task % rows - edge
        start = t * tile + (r + edge) * row
        if load:
            array[start : start + (edge * pixel if 0 <= r < height else row)] = 0
        for q in range(width if 0 <= r < height else 0):
            own, other = start + (edge + q) * pixel, ((t * LANES * height + r) * width + q) * channels
            for c in range(channels if channels < LANES else 0):
                for i in range(LANES):
                    if load:
                        array[own + c * LANES + i] = images[other + i * image + c]
                    else:
                        images[other + i * image + c] = array[own + c * LANES + i]
            for block in range((channels + LANES - 1) // LANES if channels >= LANES else 0):
                c = min(block * LANES, channels - LANES)
                inner, outer = array.ctypes.data + 4 * (own + c * LANES), images.ctypes.data + 4 * (other + c)
                if load:
                    turn(outer, image, inner, LANES)  # type: ignore[call-arg]
                else:
                    turn(inner, LANES, outer, image)  # type: ignore[call-arg]
    if load:
        array[count * tile : count * tile + edge * pixel] = 0
