"""Images in a folder per class: train/CLASS/ and test/CLASS/ or val/CLASS/."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torchvision.datasets.folder import IMG_EXTENSIONS

from sparselearning.errors import UsageError
from utils.data.folders import SPLITS, TRAIN, split_named
from utils.data.rows import EncodedRows, same_classes
from utils.files.errors import explained
from utils.files.whole import read_whole


@dataclass
class ImageFolder(EncodedRows):
    """A split as a file for each image."""

    paths: np.ndarray  # bytes (N,)

    def read(self, row: int) -> bytes:
        return read_whole(self.name(row))

    def name(self, row: int) -> str:
        return os.fsdecode(self.paths[row])

    def listing(self) -> bytes:
        return b"\0".join(map(os.path.basename, self.paths.tolist()))


def read_image_folders(folder: Path, test: Sequence[str]) -> tuple[ImageFolder, ImageFolder]:
    """The training split, and the first split of those named `test`. Raises UsageError where there is none."""
    splits = [split for split in SPLITS if (folder / split).is_dir()]
    if not splits:
        raise UsageError(
            f"{folder} holds no images in a form that is known: --data-dir takes parquet files, train/CLASS/ and "
            f"test/CLASS/ with images, a DatasetDict from save_to_disk, or for main_cifar.py torchvision's CIFAR files"
        )
    first, second = (_split(folder, split_named(names, splits, str(folder))) for names in (TRAIN, test))
    same_classes(first, second, str(folder))
    return first, second


def _split(folder: Path, split: str) -> ImageFolder:
    paths, labels, classes = class_folders(folder / split)
    return ImageFolder(f"the {split} split of {folder}", torch.from_numpy(labels), classes, paths)


def is_class_folders(folder: Path) -> bool:
    """Has it a folder for each class, with images directly in it, and no splits?"""
    inner = [entry for entry in folder.iterdir() if entry.is_dir()]
    images = (any(name.lower().endswith(IMG_EXTENSIONS) for name in os.listdir(path)) for path in inner)
    return bool(inner) and not {path.name for path in inner} & {*SPLITS} and all(images)


def read_class_folders(folder: Path) -> ImageFolder:
    """All images of a folder that has a folder for each class. Raises UsageError as `class_folders`."""
    paths, labels, classes = class_folders(folder)
    return ImageFolder(str(folder), torch.from_numpy(labels), classes, paths)


def class_folders(split: Path) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """The images of split/CLASS/ in turns, first of every class, second of every class ...: the first N are fair.

    Returns:
        Paths, bytes (N,): not a million Python strings, whose memory every worker would copy by counting; labels,
        int64 (N,); and the classes.

    Raises:
        UsageError: a folder cannot be read, or is without images.
    """
    with explained(f"cannot read {split}", "every class needs a folder with images"):
        classes = sorted(entry.name for entry in os.scandir(split) if entry.is_dir())
        home = split.resolve()
        seen = {str(home), *map(str, home.parents), *(os.path.realpath(split / name) for name in classes)}
        found = [sorted(_images_below(split / name, seen)) for name in classes]
    if empty := [name for name, images in zip(classes, found, strict=True) if not images]:
        raise UsageError(f"{split} has no images of class {empty[0]}: every class needs a folder with images")
    if not classes:
        raise UsageError(f"{split} has no folder of any class: every class needs a folder with images")
    turns = np.concatenate([np.arange(len(images)) for images in found])
    labels = np.repeat(np.arange(len(classes)), [len(images) for images in found])
    order = np.lexsort((labels, turns))
    paths = np.array([os.fsencode(os.path.join(*image)) for images in found for image in images])
    return paths[order], labels[order], classes


def _images_below(top: Path, seen: set[str]) -> Iterator[tuple[str, str]]:
    """Folder and name of each. A folder is entered once, by whatever links: they may run in circles."""

    def fail(error: OSError) -> None:
        raise error

    for folder, inner, names in os.walk(top, onerror=fail, followlinks=True):
        places = {os.path.realpath(os.path.join(folder, name)): name for name in sorted(inner)}
        inner[:] = [name for place, name in places.items() if place not in seen]
        seen.update(places)
        yield from ((folder, name) for name in names if name.lower().endswith(IMG_EXTENSIONS))
