"""Activations as the kernels read them: channel by channel and row by row, with the images of a batch side by side."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from sparselearning.cpu import kernels
from sparselearning.cpu.vectors import LANES


@dataclass(frozen=True)
class Form:
    """How activations of shape (n, channels, height, width) lie in memory, padded with zeros.

    A pixel is `n` floats, one of each image. `padding` zero pixels lie between a row and the next, which are the right
    edge of the one and the left edge of the next, and likewise as many rows of zeros between a channel and the next.
    """

    n: int
    channels: int
    height: int
    width: int
    padding: int

    @cached_property
    def row(self) -> int:
        """Floats from a row to the next."""
        return (self.width + self.padding) * self.n

    @cached_property
    def plane(self) -> int:
        """Floats from a channel to the next."""
        return (self.height + self.padding) * self.row

    @cached_property
    def first(self) -> int:
        """Floats before the first pixel of a channel."""
        return self.padding * (self.row + self.n)

    @cached_property
    def size(self) -> int:
        """Floats of the whole map, with the last edge and what a vector reads behind it."""
        return self.channels * self.plane + self.first + LANES


class Map:
    """Activations of a form, float32: `array` is numpy's, flat."""

    def __init__(self, form: Form) -> None:
        """The edges are zeros, the pixels are to be written."""
        self.form = form
        self.array: Any = torch.empty(form.size).numpy()
        length = form.width * form.n
        kernels.clear_edges(self.array, form.channels, form.plane, form.first, form.row, form.height, length)

    @classmethod
    def of(cls, x: Tensor, padding: int) -> Map:
        """(N, C, H, W), any strides."""
        n, *size = size_of(x)
        new = cls(Form(*size_of(x), padding))
        rows = [1, 1, math.prod(size)] if padding == 0 else size  # without edges all is one row
        if n % LANES == 0 and rows[-1] >= LANES and x.stride(0) != 1:
            kernels.interleave(*new.place, x.detach().contiguous().view(-1).numpy(), n, *rows)
        else:
            new.tensor().copy_(x.detach())
        return new

    @property
    def place(self) -> tuple[Any, int, int, int]:
        """As the kernels take it."""
        return self.array, self.form.first, self.form.row, self.form.plane

    def tensor(self) -> Tensor:
        """(n, channels, height, width), a view."""
        form = self.form
        shape, strides = (form.n, form.channels, form.height, form.width), (1, form.plane, form.row, form.n)
        return torch.from_numpy(self.array).as_strided(shape, strides, form.first)


def size_of(images: Tensor) -> tuple[int, int, int, int]:
    """(N, C, H, W)."""
    n, channels, height, width = images.shape
    return n, channels, height, width
