"""What layers of a network are exchanged for to make several members of it, and how these layers are found.

The members share the batch: its first rows belong to the first member, the next to the second, and so on.
"""

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Layer = nn.Conv2d | nn.Linear


class Dropped(nn.Module):
    """A layer and dropout, drawn anew for every row in training, but once for each member when it predicts.

    So a member is a network, and what it makes of an image depends on no other image.
    """

    def __init__(self, layer: nn.Module, members: int, rate: float, seed: int) -> None:
        super().__init__()
        self.layer, self.members, self.rate, self.seed = layer, members, rate, seed
        self._factors: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer(x)
        if self.training:
            return F.dropout(x, self.rate)
        return torch.cat([part * own for part, own in zip(x.chunk(self.members), self.factors(x), strict=True)])

    def factors(self, x: Tensor) -> Tensor:
        """(M, ...) of the shape of a row of x: 0 for what a member drops, 1 / (1 - rate) for the rest."""
        shape = (self.members, *x.shape[1:])
        if self._factors is None or (self._factors.shape, self._factors.device) != (shape, x.device):
            chance = torch.rand(shape, generator=torch.Generator().manual_seed(self.seed))
            self._factors = ((chance >= self.rate) / (1 - self.rate)).to(x.device)
        return self._factors.to(x.dtype)


class RankOne(nn.Module):
    """A layer whose weights are W ∘ (s_m r_mᵀ) for member m, and whose biases b ∘ s_m (Wen et al. 2020, section 3).

    The fast weights r_m and s_m start from N(1, 0.5²), as those of google/uncertainty-baselines.
    """

    def __init__(self, layer: Layer, members: int) -> None:
        super().__init__()
        self.layer = layer
        out, into = layer.weight.shape[:2]
        groups = layer.groups if isinstance(layer, nn.Conv2d) else 1
        self.fast_in = nn.Parameter(torch.empty(members, groups * into).normal_(1, 0.5))
        self.fast_out = nn.Parameter(torch.empty(members, out).normal_(1, 0.5))

    def forward(self, x: Tensor) -> Tensor:
        out = self.layer(x * self.for_rows(self.fast_in, x))
        return out * self.for_rows(self.fast_out, out)

    def for_rows(self, fast: Tensor, x: Tensor) -> Tensor:
        """The fast weights of the member that each row belongs to, in the shape of the channels of x."""
        ones = [1] * (x.ndim - 2)
        shape = (-1, *ones, fast.shape[1]) if isinstance(self.layer, nn.Linear) else (-1, fast.shape[1], *ones)
        return fast.repeat_interleave(len(x) // len(fast), dim=0).view(shape).to(x.dtype)


class Branches(nn.Module):
    """A module of each member. `apart`: has each its own rows already, or do all read the same?"""

    def __init__(self, branches: Sequence[nn.Module], apart: bool) -> None:
        super().__init__()
        self.branches, self.apart = nn.ModuleList(branches), apart

    def forward(self, x: Tensor) -> Tensor:
        parts = x.chunk(len(self.branches)) if self.apart else [x] * len(self.branches)
        return torch.cat([branch(part) for branch, part in zip(self.branches, parts, strict=True)])


def join(layers: Sequence[Layer], dim: int) -> None:
    """Give the first of some layers the inputs (dim 1) or the outputs (dim 0) of them all."""
    own = layers[0]
    own.weight = nn.Parameter(torch.cat([layer.weight.detach() for layer in layers], dim))
    if dim == 0 and own.bias is not None:
        own.bias = nn.Parameter(torch.cat([layer.bias.detach() for layer in layers if layer.bias is not None]))
    if isinstance(own, nn.Conv2d):
        own.in_channels = own.weight.shape[1]
    else:
        own.out_features = own.weight.shape[0]


def exchange(network: nn.Module, name: str, module: nn.Module) -> None:
    """Put another module in the place of that of this name."""
    parent, _, own = name.rpartition(".")
    setattr(network.get_submodule(parent), own, module)


def units(network: nn.Module) -> dict[str, nn.Module]:
    """The modules with parameters that follow each other in a network, those in sequences one by one."""

    def below(prefix: str, module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
        for name, child in module.named_children():
            if isinstance(child, nn.Sequential):
                yield from below(f"{prefix}{name}.", child)
            elif any(True for _ in child.parameters()):
                yield f"{prefix}{name}", child

    return dict(below("", network))


def weight_layers(network: nn.Module) -> dict[str, Layer]:
    """The convolutions and linear layers, but for those of attention, which reads their weights itself."""
    attention = [name for name, module in network.named_modules() if isinstance(module, nn.MultiheadAttention)]
    layers = {name: module for name, module in network.named_modules() if isinstance(module, Layer)}
    return {name: layer for name, layer in layers.items() if name.rpartition(".")[0] not in attention}


def fast_weights(model: nn.Module) -> list[nn.Parameter]:
    """Those of all layers of a BatchEnsemble; none of other models."""
    layers = [module for module in model.modules() if isinstance(module, RankOne)]
    return [fast for layer in layers for fast in (layer.fast_in, layer.fast_out)]
