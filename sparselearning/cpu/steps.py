"""What lies between two sparse layers, from map to map."""

import math
from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor, nn

from sparselearning.cpu import kernels
from sparselearning.cpu.layers import SparseConvolution, identity
from sparselearning.cpu.maps import Form, Map


class SparseLinear(nn.Module):
    """A linear layer in evaluation that computes its non-zero weights alone."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        pixel = nn.Conv2d(layer.in_features, layer.out_features, 1, device="meta", bias=layer.bias is not None)
        pixel.weight = nn.Parameter(layer.weight.detach()[:, :, None, None], requires_grad=False)
        pixel.bias = layer.bias
        self.pixel = SparseConvolution(pixel)

    def forward(self, x: Tensor) -> Tensor:
        """(…, C) → (…, O)."""
        out: Map = self.pixel(x.reshape(-1, x.shape[-1], 1, 1))
        return out.tensor().reshape(*x.shape[:-1], -1)


class Affine(nn.Module):
    """scale · x + shift channel by channel, of one map or of the sum of two, then a ReLU if asked for."""

    def __init__(self, norm: nn.BatchNorm2d | None = None, edge: int = 0) -> None:
        super().__init__()
        self.edge, self.least = edge, -math.inf
        self.constants = None if norm is None else folded(norm)

    def forward(self, *maps: Map) -> Map:
        """(N, C, H, W), each, and the result."""
        form = replace(maps[0].form, padding=self.edge)
        out = Map(form)
        constants = self.constants or identity(form.channels)
        for i, summand in enumerate(maps):
            least = self.least if i == len(maps) - 1 else -math.inf
            kernels.transform(*out.place, *summand.place, form.height, form.width * form.n, *constants, i > 0, least)
        return out


def folded(norm: nn.BatchNorm2d) -> tuple[object, object]:
    """Scale and shift of each channel that batch norm comes to in evaluation."""
    assert norm.running_mean is not None and norm.running_var is not None
    scale = (norm.running_var + norm.eps).rsqrt()
    scale = scale if norm.weight is None else scale * norm.weight.detach()
    shift = -norm.running_mean * scale
    shift = shift if norm.bias is None else shift + norm.bias.detach()
    return scale.numpy(), shift.numpy()


class Pool(nn.Module):
    """A max-pool or an average-pool that `fits`."""

    def __init__(self, pool: nn.MaxPool2d | nn.AvgPool2d, edge: int = 0) -> None:
        super().__init__()
        self.window, self.padding = pair(pool.kernel_size), pair(pool.padding)
        self.stride = pair(pool.stride)
        self.mean, self.edge = isinstance(pool, nn.AvgPool2d), edge

    @staticmethod
    def fits(module: nn.Module) -> bool:
        """Has it no dilation, rounds down, counts the padding and returns no places?"""
        if type(module) is nn.MaxPool2d:
            return pair(module.dilation) == (1, 1) and not module.ceil_mode and not module.return_indices
        if type(module) is nn.AvgPool2d:
            return module.count_include_pad and not module.ceil_mode and module.divisor_override is None
        return False

    def forward(self, x: Map) -> Map:
        """(N, C, H, W) → (N, C, H', W')."""
        form = x.form
        sizes = zip((form.height, form.width), self.padding, self.window, self.stride, strict=True)
        height, width = ((side + 2 * p - k) // s + 1 for side, p, k, s in sizes)
        out = Map(Form(form.n, form.channels, height, width, self.edge))
        kernels.pool(
            *out.place, *x.place, form.channels, height, width, form.height, form.width, form.n, self.window,
            self.stride, self.padding, self.mean,
        )  # fmt: skip
        return out


def pair(sizes: int | Sequence[int]) -> tuple[int, int]:
    """Height and width."""
    return (sizes, sizes) if isinstance(sizes, int) else (sizes[0], sizes[1])


class Plain(nn.Module):
    """A map as a tensor, for layers that know no maps."""

    def forward(self, x: Map) -> Tensor:
        """(N, C, H, W), a view of the map."""
        return x.tensor()
