"""What lies between two sparse layers, from map to map."""

import math
from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor, nn

from sparselearning.cpu import kernels
from sparselearning.cpu.layers import SparseConvolution, identity, pool_into
from sparselearning.cpu.maps import Map
from sparselearning.cpu.plans import Pooling


class LinearOnPixels(nn.Module):
    """A linear layer in evaluation that computes its non-zero weights alone."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.pixel = SparseConvolution(as_convolution(layer))

    def forward(self, x: Tensor) -> Tensor:
        """(…, C) → (…, O)."""
        out: Map = self.pixel(x.reshape(-1, x.shape[-1], 1, 1))
        return out.tensor().reshape(*x.shape[:-1], -1)


def as_convolution(layer: nn.Linear) -> nn.Conv2d:
    """The layer for images of one pixel."""
    pixel = nn.Conv2d(layer.in_features, layer.out_features, 1, device="meta", bias=layer.bias is not None)
    pixel.weight = nn.Parameter(layer.weight.detach()[:, :, None, None], requires_grad=False)
    pixel.bias = layer.bias
    return pixel


class Affine(nn.Module):
    """scale · x + shift channel by channel, of one map or of the sum of two, then a ReLU if asked for."""

    def __init__(self, norm: nn.BatchNorm1d | nn.BatchNorm2d | None = None, edge: int = 0) -> None:
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


def folded(norm: nn.BatchNorm1d | nn.BatchNorm2d) -> tuple[object, object]:
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
        mean = isinstance(pool, nn.AvgPool2d)
        self.pooling = Pooling(pair(pool.kernel_size), pair(pool.stride), pair(pool.padding), mean)
        self.edge = edge

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
        out = Map(self.pooling.form(x.form, self.edge))
        pool_into(out, self.pooling, x.form, x.place)
        return out


def pair(sizes: int | Sequence[int]) -> tuple[int, int]:
    """Height and width."""
    return (sizes, sizes) if isinstance(sizes, int) else (sizes[0], sizes[1])


class Mean(nn.Module):
    """The mean of all pixels."""

    def forward(self, x: Map) -> Map:
        """(N, C, H, W) → (N, C, 1, 1)."""
        pooling = Pooling((x.form.height, x.form.width), (1, 1), (0, 0), mean=True)
        out = Map(pooling.form(x.form, 0))
        pool_into(out, pooling, x.form, x.place)
        return out


class Flat(nn.Module):
    """All pixels of all channels as channels of one pixel."""

    def forward(self, x: Map) -> Map:
        """(N, C, H, W) → (N, C · H · W, 1, 1)."""
        if (x.form.height, x.form.width, x.form.padding) == (1, 1, 0):
            return x
        return Map.of(x.tensor().reshape(x.form.n, -1, 1, 1), 0)


class Plain(nn.Module):
    """A map as a tensor, for layers that know no maps; all but its first dimensions as one if there are to be fewer."""

    def __init__(self, dimensions: int = 3) -> None:
        super().__init__()
        self.dimensions = dimensions

    def forward(self, x: Map) -> Tensor:
        """(N, C, H, W) or, with one dimension beside the images, (N, C · H · W); a view of the map where it can be."""
        return x.tensor().flatten(self.dimensions)
