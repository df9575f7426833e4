"""The data sets of small images that are known by name, a row each, and how their images are varied.

A row is all that a new one needs: `--data` takes it, and reads it from the Hub or a local copy.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypedDict

SIDE = 32  # pixels of a side of CIFAR's images
PAD = 4  # zeros on every side, as torchvision's RandomCrop(32, padding=4) adds
FLIPS = {"horizontal": True, "none": False}  # of training images, half of which are mirrored


class Preprocessing(TypedDict, total=False):
    """What the user may change in a recipe, and what a ticket says of its images; None is as if it were not there."""

    image_size: int | None
    mean: Sequence[float] | None
    std: Sequence[float] | None
    flip: str | None
    label_column: str | None



@dataclass(frozen=True)
class Recipe:
    """As it is by default, that of any images in a local folder.

    Attributes:
        hub: id on the Hub; None: it has no home there.
        config: which of the Hub's configurations, and the folder of its files in a local copy of them all.
        num_classes: None: as many as there are.
        native: pixels of a side that the images come with; None: any, and they are resized.
        mean, std: of the channels of the training images, in units of 0..1; None: they are measured.
        flip: a key of FLIPS.
        shift: pixels by which training images are moved at most, up to PAD.
        image_size: pixels of a side that the network sees.
        label_column: of tables with several.
    """

    hub: str | None = None
    config: str | None = None
    num_classes: int | None = None
    native: int | None = None
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None
    flip: str = "horizontal"
    shift: int = PAD
    image_size: int = SIDE
    label_column: str | None = None

    def changed(self, changes: Preprocessing) -> "Recipe":
        return replace(
            self,
            image_size=changes.get("image_size") or self.image_size,
            mean=changes.get("mean") or self.mean,
            std=changes.get("std") or self.std,
            flip=changes.get("flip") or self.flip,
            label_column=changes.get("label_column") or self.label_column,
        )

    def preprocessing(self) -> Preprocessing:
        return Preprocessing(
            image_size=self.image_size, mean=self.mean, std=self.std, flip=self.flip, label_column=self.label_column
        )


# means and deviations are those of the training images, as others have computed them too: of CIFAR e.g.
# kuangliu/pytorch-cifar and weiaicunzai/pytorch-cifar100, of SVHN PatrickZH/DeepCore
RECIPES = {
    "cifar10": Recipe(
        "uoft-cs/cifar10", num_classes=10, native=SIDE,
        mean=(0.4914, 0.4822, 0.4465), std=(0.2470, 0.2435, 0.2616),
    ),
    "cifar100": Recipe(
        "uoft-cs/cifar100", num_classes=100, native=SIDE,
        mean=(0.5071, 0.4865, 0.4409), std=(0.2673, 0.2564, 0.2762),
    ),
    "svhn": Recipe(
        "ufldl-stanford/svhn", "cropped_digits", num_classes=10, native=SIDE,
        mean=(0.4377, 0.4438, 0.4728), std=(0.1980, 0.2010, 0.1970), flip="none",
    ),
    # A mirrored digit is another sign. Enlarged fourfold, they move far with 4 pixels: 2 train to a lower error.
    "digits": Recipe(
        num_classes=10, native=SIDE, mean=(0.3054, 0.3054, 0.3054), std=(0.3237, 0.3237, 0.3237), flip="none", shift=2
    ),
}  # fmt: skip
