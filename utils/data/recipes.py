"""What the data sets of small images are known by, and how their images are varied."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

PAD = 4  # zeros on every side, as torchvision's RandomCrop(32, padding=4) adds
FLIPS = {"horizontal": True, "none": False}  # of training images, half of which are mirrored
LOOK = ("image_size", "mean", "std", "flip", "label_column")  # what the user may change


@dataclass(frozen=True)
class Recipe:
    """As it is by default, that of any images.

    Attributes:
        num_classes: None: as many as there are.
        native: pixels of a side that the images come with; None: any, and they are resized.
        mean, std: of the channels of the training images, in units of 0..1; None: they are measured.
        shift: pixels, at most PAD.
        image_size: pixels of a side that the network sees.
        label_column: of tables with several.
    """

    num_classes: int | None = None
    native: int | None = None
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None
    flip: str = "horizontal"
    shift: int = PAD
    image_size: int = 32
    label_column: str | None = None

    def measured(self, pixels: Tensor) -> "Recipe":
        """With mean and deviation of bytes (N, H, W, 3), to four digits, where it has none.

        The deviation is a step of a byte at least: in a channel that never changes, a test image may differ by one.
        """
        if self.mean is not None and self.std is not None:
            return self
        sums = torch.zeros(2, 3, dtype=torch.float64)
        for part in pixels.split(1000):
            values = part.flatten(0, 2).double() / 255
            sums += torch.stack((values.sum(0), values.square().sum(0)))
        mean, square = sums / pixels[..., 0].numel()
        std = (square - mean**2).clamp(min=0).sqrt().clamp(min=1 / 255)
        own = [tuple(round(value, 4) for value in values.tolist()) for values in (mean, std)]
        return replace(self, mean=self.mean or own[0], std=self.std or own[1])


RECIPES = {
    "cifar10": Recipe(10, 32, (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "cifar100": Recipe(100, 32, (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
    # A mirrored digit is another sign. Enlarged fourfold, they move far with 4 pixels: 2 train to a lower error.
    "digits": Recipe(10, 32, (0.3054, 0.3054, 0.3054), (0.3237, 0.3237, 0.3237), flip="none", shift=2),
}
