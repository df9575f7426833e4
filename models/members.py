"""Efficient ensembles of any network: some of its layers are exchanged for layers of M members.

Inside, the members share the batch: its first rows belong to the first member, the next to the second, and so on.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from models.ensembles import Ensemble
from models.member_layers import Branches, Dropped, Layer, RankOne, exchange, join, units, weight_layers
from sparselearning.errors import UsageError

Make = Callable[[], nn.Module]  # a network that is initialized anew


def ensemble(log_probs: Tensor) -> Tensor:
    """The mean of the probabilities of M models (FreeTickets, section 3.2): log-probabilities (M, N, C) to (N, C)."""
    return log_probs.logsumexp(0) - math.log(len(log_probs))


class Members(nn.Module):
    """A network that makes M predictions of C classes for an image.

    It is called with images (N, 3, side, side) for the log-probabilities (N, C) of their mean; and in training with
    views (V, n, 3, side, side), those that `deal` has chosen, for the logits (M, n, C) of each member by itself.

    Args:
        make: the network that it is made of.

    Attributes:
        members: M.
        views: V, of an image that is predicted: M where the members see images of their own, 1 where they share them.
        passes: how often that image goes through the whole network.
        sharing: members that see each view in training.
    """

    sharing = 1

    def __init__(self, make: Make, network: nn.Module, members: int, views: int, passes: int) -> None:
        super().__init__()
        self.make, self.network = make, network
        self.members, self.views, self.passes = members, views, passes

    def forward(self, images: Tensor) -> Tensor:
        if images.ndim == 5:
            return self.of_views(images)
        return ensemble(self.logits(images).log_softmax(-1))

    def logits(self, images: Tensor) -> Tensor:
        """(N, 3, side, side) → (M, N, C): what every member makes of every image."""
        parts = images.split(max(1, len(images) // self.passes))  # so that it takes no more memory than one pass
        return torch.cat([self.of_views(part.expand(self.views, *part.shape)) for part in parts], dim=1)

    def of_views(self, views: Tensor) -> Tensor:
        """(V, n, 3, side, side) → (M, n, C)."""
        rows = views.flatten(0, 1).contiguous(memory_format=torch.channels_last)
        return self.network(rows).unflatten(0, (-1, views.shape[1]))

    def deal(self, images: int, repetitions: int) -> Tensor:
        """Which images of a batch are in which view of a training step: int64 (V, n).

        All come `repetitions` times in all views together; where the views do not come out even, the first once more.
        What is random is drawn from torch's generator of the CPU.
        """
        return in_turn(images, repetitions, self.views)


def in_turn(images: int, repetitions: int, views: int) -> Tensor:
    """The batch, as often as repeated, cut into views."""
    rows = math.ceil(repetitions * images / views)
    return (torch.arange(views * rows) % images).view(views, rows)


class MCDropout(Members):
    """Dropout that stays on when it predicts (Gal & Ghahramani 2016), with a member for each time that it is drawn.

    It follows the first convolution of every residual block, as in Wide ResNets (Zagoruyko & Komodakis 2016); in
    networks without such blocks, every convolution.
    """

    def __init__(self, make: Make, kind: Ensemble) -> None:
        network = make()
        blocks = [unit for unit in units(network).values() if not isinstance(unit, nn.Conv2d)]
        inside = [[module for module in block.modules() if isinstance(module, nn.Conv2d)] for block in blocks]
        chosen = {id(convolutions[0]) for convolutions in inside if convolutions}
        for seed, (name, layer) in enumerate(weight_layers(network).items()):
            if id(layer) in chosen or (not chosen and isinstance(layer, nn.Conv2d)):
                exchange(network, name, Dropped(layer, kind.members, kind.value, seed))
        super().__init__(make, network, kind.members, views=kind.members, passes=kind.members)

    def deal(self, images: int, repetitions: int) -> Tensor:
        return in_turn(images, repetitions, 1)  # dropout is drawn for every row


class BatchEnsemble(Members):
    """All members have the same weights, each times a matrix of rank one of its own (Wen et al. 2020)."""

    def __init__(self, make: Make, kind: Ensemble) -> None:
        network = make()
        for name, layer in weight_layers(network).items():
            exchange(network, name, RankOne(layer, kind.members))
        super().__init__(make, network, kind.members, views=kind.members, passes=kind.members)


class MIMO(Members):
    """One pass sees M images and makes a prediction for each; the same M times when it predicts (Havasi et al. 2021).

    The first convolution has the inputs of M networks, and the last linear layer their outputs.
    """

    def __init__(self, make: Make, kind: Ensemble) -> None:
        networks = [make() for _ in range(kind.members)]
        layers = [weight_layers(network) for network in networks]
        first, *_, last = layers[0]
        if not isinstance(layers[0][first], nn.Conv2d) or not isinstance(layers[0][last], nn.Linear):
            raise UsageError("mimo needs a network that begins with a convolution and ends with a linear layer")
        join([own[first] for own in layers], dim=1)
        join([own[last] for own in layers], dim=0)
        super().__init__(make, networks[0], kind.members, views=kind.members, passes=1)
        self.input_repetition = kind.value

    def of_views(self, views: Tensor) -> Tensor:
        rows = views.transpose(0, 1).flatten(1, 2).contiguous(memory_format=torch.channels_last)
        return self.network(rows).unflatten(1, (self.members, -1)).transpose(0, 1)

    def deal(self, images: int, repetitions: int) -> Tensor:
        """Each view is the whole batch, `repetitions` times, in an order of its own; but in a part ρ of the rows all
        views have the same image (Havasi et al. 2021, input repetition).
        """
        batch = torch.arange(images).repeat(repetitions)[torch.randperm(repetitions * images)]
        apart = round((1 - self.input_repetition) * len(batch))
        return torch.stack([torch.cat((batch[torch.randperm(apart)], batch[apart:])) for _ in range(self.members)])


class TreeNet(Members):
    """The members share the first part of the network, and go on as networks of their own (Lee et al. 2015).

    What they share is a part of the blocks: residual blocks, and layers with weights outside of such.
    """

    def __init__(self, make: Make, kind: Ensemble) -> None:
        networks = [make() for _ in range(kind.members)]
        parts = units(networks[0])
        blocks = [name for name, unit in parts.items() if any(isinstance(module, Layer) for module in unit.modules())]
        split = blocks[min(round(kind.value * len(blocks)), len(blocks) - 1)]
        for name in [*parts][[*parts].index(split) :]:
            branches = [network.get_submodule(name) for network in networks]
            exchange(networks[0], name, Branches(branches, apart=name != split))
        super().__init__(make, networks[0], kind.members, views=1, passes=1)
        self.sharing = kind.members


MEMBERS: dict[str, Callable[[Make, Ensemble], Members]] = {
    "mc-dropout": MCDropout,
    "batchensemble": BatchEnsemble,
    "mimo": MIMO,
    "treenet": TreeNet,
}


def members_of(kind: Ensemble, make: Make) -> Members:
    """The efficient ensemble of networks that `make` initializes."""
    return MEMBERS[kind.kind](make, kind)
