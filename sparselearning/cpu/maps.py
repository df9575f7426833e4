"""Activations as the kernels read them: channel by channel and row by row, with the images of a batch side by side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sparselearning.cpu import kernels
from sparselearning.cpu.vectors import LANES


@dataclass(frozen=True)
class Map:
    """Activations of shape (n, channels, height, width), float32, padded with zeros.

    A pixel is `n` floats, one of each image. `padding` rows of zeros lie above and below a channel, and
    `padding` zero pixels between a row and the next, which are the right edge of the one and the left edge of the next.
    """

    n: int
    channels: int
    height: int
    width: int
    padding: int
    array: Any  # of numpy, flat

    @classmethod
    def empty(cls, n: int, channels: int, height: int, width: int, padding: int) -> Map:
        """A map with its edges, whose pixels are to be written."""
        size = channels * (height + 2 * padding) * (width + padding) * n
        beyond = padding * n + LANES  # the last edge, and what a vector reads behind it
        new = cls(n, channels, height, width, padding, torch.empty(size + beyond).numpy())
        kernels.clear_edges(new.array, channels, new.plane, new.first, new.row, height, width * n)
        return new

    @classmethod
    def of(cls, x: Tensor, padding: int) -> Map:
        """(N, C, H, W), any strides."""
        new = cls.empty(*size_of(x), padding)
        new.tensor().copy_(x.detach())
        return new

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(n, channels, height, width)"""
        return self.n, self.channels, self.height, self.width

    @property
    def row(self) -> int:
        """Floats from a row to the next."""
        return (self.width + self.padding) * self.n

    @property
    def plane(self) -> int:
        """Floats from a channel to the next."""
        return (self.height + 2 * self.padding) * self.row

    @property
    def first(self) -> int:
        """Floats before the first pixel of a channel."""
        return self.padding * self.row + self.padding * self.n

    @property
    def place(self) -> tuple[Any, int, int, int]:
        """As the kernels take it."""
        return self.array, self.first, self.row, self.plane

    def tensor(self) -> Tensor:
        """(n, channels, height, width), a view."""
        strides = (1, self.plane, self.row, self.n)
        return torch.from_numpy(self.array).as_strided(self.shape, strides, self.first)


def size_of(images: Map | Tensor) -> tuple[int, int, int, int]:
    """(N, C, H, W)."""
    n, channels, height, width = images.shape
    return n, channels, height, width
