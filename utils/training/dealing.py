"""What a network sees of a batch in a training step, and what it is to make of it: for networks of several members."""

from dataclasses import dataclass

from torch import Tensor, nn

from models.members import Members


@dataclass(frozen=True)
class Deal:
    """A batch of N images as a network trains on it.

    Attributes:
        inputs: of the network, whose logits (..., classes) have as many rows as `rows` makes.
        views: the images of each view, int64 (V, n), as `Members.deal` chose them; None: each image comes once.
        sharing: how many members see each view.
    """

    inputs: Tensor
    views: Tensor | None = None
    sharing: int = 1

    def rows(self, values: Tensor) -> Tensor:
        """What belongs to each row of the logits, (rows, ...), of what belongs to each image, (N, ...)."""
        if self.views is None:
            return values
        return values[self.views].repeat_interleave(self.sharing, dim=0).flatten(0, 1)


def dealt(model: nn.Module, images: Tensor, repetitions: int) -> Deal:
    """A batch for this model: for a plain one as it is.

    Args:
        images: (N, 3, side, side).
        repetitions: how often each comes, for a model of several members.
    """
    if not isinstance(model, Members):
        return Deal(images)
    views = model.deal(len(images), repetitions).to(images.device, non_blocking=True)
    return Deal(images[views], views, model.sharing)
