"""Which network a ticket is of, by the shapes of its tensors."""

from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor, nn

from models import build, classifiers
from models.ensembles import Ensemble
from sparselearning.errors import UsageError
from utils.command_line.options import ImageNetOptions
from utils.data.recipes import SIDE

LARGE_SIDE = ImageNetOptions.image_size  # as main_imagenet.py cuts images where it is not told otherwise


class Builder(NamedTuple):
    """What to build a network with.

    Attributes:
        large: is it one of torchvision's classifiers, which main_imagenet.py trains?
        image_size: pixels of a side that it is built for.
        ensemble: the efficient ensemble that is made of it.
    """

    name: str
    num_classes: int
    width: float
    large: bool
    image_size: int
    ensemble: Ensemble | None = None

    @property
    def module(self) -> str:
        return "models.classifiers" if self.large else "models"

    @property
    def call(self) -> str:
        """What to write with the `build` of the module."""
        sized = f", image_size={self.image_size}" if self.large else ""
        narrow = "" if self.width == 1 else f", width={self.width:g}"
        members = f', ensemble=Ensemble.read("{self.ensemble}")' if self.ensemble else ""
        return f'build("{self.name}", {self.num_classes}{sized}{narrow}{members})'

    def build(self) -> nn.Module:
        """The network, freshly initialized, on the CPU. Raises UsageError where there is none."""
        if self.large:
            return classifiers.build(self.name, self.num_classes, self.image_size, self.width, self.ensemble)
        return build(self.name, self.num_classes, self.width, self.image_size, self.ensemble)


def builder_of(
    ticket: Mapping[str, Tensor], name: str, width: float, image_size: int | None, ensemble: Ensemble | None
) -> Builder | None:
    """Builds the network whose state dict has these tensors; None: it is none of this project's.

    Args:
        image_size: pixels of a side; None: the usual ones of its data, 32 or 224.
    """
    shapes = {key: tensor.shape for key, tensor in ticket.items()}
    for large, usual in ((False, SIDE), (True, LARGE_SIDE)):
        builder = Builder(name, 10, width, large, image_size or usual, ensemble)
        try:
            state = builder.build().state_dict()
            if (head := [*state][-1]) in ticket:
                builder = builder._replace(num_classes=10 * len(ticket[head]) // len(state[head]))
                if {key: tensor.shape for key, tensor in builder.build().state_dict().items()} == shapes:
                    return builder
        except UsageError:  # it has none of this name
            continue
    return None
