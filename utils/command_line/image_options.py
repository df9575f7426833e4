"""The options of the data: where the images come from, and what they look like."""

from dataclasses import dataclass

from utils.command_line.paths import place
from utils.command_line.rows import CLOSED, FROM_0, TO_1, Group, count, not_negative, option
from utils.data.recipes import FLIPS, RECIPES

DOWNLOADED = ", ".join(name for name, recipe in RECIPES.items() if recipe.hub)
INSTALLED = ", ".join(name for name, recipe in RECIPES.items() if not recipe.hub)
NOT_MIRRORED = ", ".join(name for name, recipe in RECIPES.items() if recipe.flip == "none")


@dataclass(frozen=True, kw_only=True)
class DataOptions(Group):
    """data: Where the images come from, and how many of them are used."""

    data: str = option("cifar10", f"{DOWNLOADED}, {INSTALLED}, which needs no download, or any name with --data-dir",
                       metavar="NAME")  # fmt: skip
    data_dir: str | None = option(None, "read the data here instead of from the Hub: parquet, ImageFolder, "
                                  "save_to_disk or torchvision's CIFAR files", metavar="FOLDER", read=place,
                                  changes="nothing")  # fmt: skip
    label_column: str | None = option(None, "the column of a table that holds the labels, where several may",
                                      metavar="NAME")  # fmt: skip
    limit_train: int | None = option(None, "use the first N training images only; of a folder per class, one of each "
                                     "class in turn", metavar="N", fits=count(10**9))  # fmt: skip
    limit_test: int | None = option(None, "use the first N test images only", metavar="N", fits=count(10**9))
    valid_fraction: float = option(0.0, "hold out this part of the training images, to tune on it instead of on the "
                                   "test set", metavar="F", fits=FROM_0)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class ImageOptions(Group):
    """images: What the network sees of them."""

    image_size: int | None = option(None, "side of the images; those of one's own are resized to it (32)",
                                    metavar="PIXELS", fits=count(2048))  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class SmallImageOptions(ImageOptions):
    """Images that are decoded once, and all kept in the memory of the device."""

    mean: tuple[float, float, float] | None = option(
        None, "of the channels, in units of 0..1 (the data set's; of one's own, that of the training images)",
        metavar=("R", "G", "B"), fits=CLOSED)  # fmt: skip
    std: tuple[float, float, float] | None = option(None, "standard deviation, likewise", metavar=("R", "G", "B"),
                                                    fits=TO_1)  # fmt: skip
    flip: str | None = option(None, "how half of the training images are mirrored (horizontal; "
                              f"{NOT_MIRRORED}: none)", choices=tuple(FLIPS))  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class LargeImageOptions(ImageOptions):
    """Images that are decoded whenever they are needed."""

    image_size: int = option(224, "side of a training or test crop", metavar="PIXELS", fits=count(2048))
    streaming: bool = option(False, "read parquet files, on the Hub or in --data-dir, as they are needed, and keep no "
                             "copy")  # fmt: skip
    workers: int | None = option(None, "processes that load images, for each process of the run; 0: none (its cores "
                                 "but one, at most 8)", metavar="N", fits=not_negative(1000),
                                 changes="nothing")  # fmt: skip
