"""Which network a ticket is of, by the shapes of its tensors."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from models import MODELS, build, classifiers
from models.ensembles import Ensemble
from sparselearning.errors import UsageError
from utils.command_line.options import ImageNetOptions
from utils.data.recipes import SIDE
from utils.run_folder.headers import TicketHeader, required

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
            state = _shapes(builder)
        except UsageError:  # it has none of this name
            continue
        if (head := [*state][-1]) in shapes:
            builder = builder._replace(num_classes=10 * shapes[head][0] // state[head][0])
            if _shapes(builder) == shapes:
                return builder
    return None


def _shapes(builder: Builder) -> dict[str, torch.Size]:
    """Of the tensors of its network."""
    with torch.device("meta"):  # which spares their values
        return {key: tensor.shape for key, tensor in builder.build().state_dict().items()}


def builder_for(
    path: Path, ticket: Mapping[str, Tensor], header: TicketHeader, model: str | None, image_size: int | None
) -> Builder:
    """Builds the network of a ticket file, by its header or by the `model` and `image_size` that options give instead.

    Raises:
        UsageError: it does not say of which model it is, or none of that name has its tensors.
    """
    name = required("model", model or header.model)
    width, side = header.width or 1.0, image_size or header.image_size
    builder = builder_of(ticket, name, width, side, header.efficient_ensemble)
    if builder is None:
        raise UsageError(
            f"{path} belongs to another model: no {name} has its tensors: with --model choose one of "
            f"{', '.join(MODELS)} or of torchvision's, and mind --image-size"
        )
    return builder
