"""Convolutions and linear layers in training whose absent connections are not computed."""

from __future__ import annotations

import contextlib
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from sparselearning.cpu.gradients import Passes, Taps
from sparselearning.cpu.layers import zeros_around
from sparselearning.cpu.needs import unsuitable
from sparselearning.cpu.plans import Window
from sparselearning.errors import UsageError
from sparselearning.masking import Masking

DENSEST = 0.5  # above this density torch's dense kernels are the faster ones
SIZES = 4  # of images that are planned for at a time


class Connected:
    """The connections of a layer as its passes need them, found anew when its mask has changed.

    Args:
        layer: one that `fits`.
        mask: of its weight; changed in place.
        masking: knows whether a dense gradient is read.
    """

    def __init__(self, layer: nn.Conv2d | nn.Linear, mask: Tensor, masking: Masking) -> None:
        self.mask = mask.view(*mask.shape, *[1] * (4 - mask.ndim))
        self.masking = masking
        stride, padding = (1, 1), (0, 0)
        if isinstance(layer, nn.Conv2d):
            stride, padding = layer.stride, zeros_around(layer) or padding  # type: ignore[assignment]
        self.window = Window(tuple(self.mask.shape), stride, padding)
        self._known: tuple[object, ...] = ()
        self._sparse = False
        self._passes: dict[tuple[int, ...], Passes] = {}

    def passes(self, weight: Tensor, image: tuple[int, ...]) -> Passes | None:
        """Those over images of shape (C, height, width); None where the layer is too dense or they do not fit it."""
        if self._known != (state := (self.mask._version, weight.stride())):
            sparse = int(self.mask.count_nonzero()) <= DENSEST * self.mask.numel()
            formats = torch.contiguous_format, torch.channels_last
            whole = any(weight.is_contiguous(memory_format=order) for order in formats)
            self._sparse = sparse and whole
            self._known, self._passes = state, {}
        if not self.masking._hooks:  # it was removed: the weights are free
            return None
        if self._sparse and image not in self._passes:
            if len(self._passes) == SIZES:
                self._passes.clear()
            with contextlib.suppress(ValueError):  # torch says what is wrong with the images
                self._passes[image] = Passes(Taps.of(self.mask, weight), self.window, image)
        return self._passes.get(image)

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy of the layer is dense, for its connections are its own."""
        return type(None), ()


class _Convolution(torch.autograd.Function):
    """x ∗ weight + bias."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, passes: Passes, connected: Connected
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.passes, ctx.connected = passes, connected
        return passes.forward(x, weight, bias)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        x_wanted, weight_wanted, bias_wanted, *_ = ctx.needs_input_grad
        dense = weight_wanted and ctx.connected.masking.reads_gradients
        dx, dweight = ctx.passes.backward(gradient, x, weight, (x_wanted, weight_wanted and not dense))
        if dense:
            window = ctx.connected.window
            form = None, window.stride, window.padding, (1, 1), False, (0, 0), 1
            dweight = torch.ops.aten.convolution_backward(gradient, x, weight, *form, (False, True, False))[1]
        return dx, dweight, gradient.sum((0, 2, 3)) if bias_wanted else None, None, None


def convolved(layer: SparseConv2d | SparseLinear, x: Tensor, weight: Tensor) -> Tensor | None:
    """(N, C, H, W) → (N, O, H', W'), channels_last; None where the layer is to be dense.

    Raises:
        UsageError: the images are not float32 on a CPU.
    """
    if layer.connected is None or not (layer.training and torch.is_grad_enabled()):
        return None
    if unsuitable([x]) is not None or torch.is_autocast_enabled("cpu"):
        raise UsageError("sparse kernels compute float32 on a CPU: train without autocast, or without them")
    passes = layer.connected.passes(weight, tuple(x.shape[1:]))
    return None if passes is None else _Convolution.apply(x, weight, layer.bias, passes, layer.connected)


class SparseConv2d(nn.Conv2d):
    """A convolution in sparse training; in evaluation, without gradients and where it is denser than half, torch's."""

    connected: Connected | None = None

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) → (N, O, H', W')."""
        out = convolved(self, x, self.weight) if x.ndim == 4 else None
        return super().forward(x) if out is None else out


class SparseLinear(nn.Linear):
    """A linear layer in sparse training, likewise."""

    connected: Connected | None = None

    def forward(self, x: Tensor) -> Tensor:
        """(…, C) → (…, O)."""
        out = convolved(self, x.reshape(-1, x.shape[-1], 1, 1), self.weight[:, :, None, None])
        return super().forward(x) if out is None else out.reshape(*x.shape[:-1], -1)


SPARSE: dict[type[nn.Module], type[SparseConv2d | SparseLinear]] = {nn.Conv2d: SparseConv2d, nn.Linear: SparseLinear}
