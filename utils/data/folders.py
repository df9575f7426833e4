"""What a local folder holds: the files of each split, and images in a folder per class."""

import os
import re
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import numpy as np
from torchvision.datasets.folder import IMG_EXTENSIONS

from sparselearning.errors import UsageError
from utils.command_line.errors import blame

TRAIN = ("train",)
HELD_OUT = ("val", "validation", "valid")
SPLITS = (*TRAIN, *HELD_OUT, "test")


def existing(data_dir: str) -> Path:
    folder = Path(data_dir).expanduser()
    if not folder.is_dir():
        raise UsageError(f"no folder {folder}: give --data-dir the folder with the data, such as train/ and test/")
    return folder


def parquet_files(folder: Path) -> dict[str, list[str]]:
    """The parquet files of each split, in their order."""
    shards: dict[str, list[str]] = {}
    for file in sorted(folder.rglob("*.parquet")):
        if split := _split_of(file.relative_to(folder)):
            check_file(file)
            shards.setdefault(split, []).append(str(file))
    for split, names in shards.items():
        if (total := re.search(r"-of-(\d+)\.parquet$", names[0])) and int(total[1]) != len(names):
            raise UsageError(f"{folder} has {len(names)} of {int(total[1])} {split} files: copy the others too")
    return shards


def _split_of(path: Path) -> str | None:
    """The split that a path names: train-00000-of-00003.parquet, cifar10-test.parquet, validation/0000.parquet."""
    words = [re.findall("[a-z]+", part.lower()) for part in reversed(path.parts)]
    return next((split for part in words for split in SPLITS if split in part), None)


def split_named(names: Sequence[str], splits: Collection[str], where: str) -> str:
    """The first of `names` that is there."""
    split = next((name for name in names if name in splits), None)
    if split is None:
        raise UsageError(f"{where} has no split {' or '.join(names)}, but {', '.join(splits) or 'nothing'}: add one")
    return split


def check_file(path: Path) -> None:
    """Raises UsageError for a pipe or a device, which a reader could wait for without end, and for a broken link."""
    if not path.is_file():
        raise UsageError(f"{path} is no file that can be read: copy it again, or remove it")


def class_folders(split: Path) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """The images of split/CLASS/ in turns, first of every class, second of every class ...: the first N are fair.

    Returns:
        Paths, bytes (N,): not a million Python strings, whose memory every worker would copy by counting; labels,
        int64 (N,); and the classes.

    Raises:
        UsageError: a folder cannot be read, or is without images.
    """
    with blame(f"cannot read {split}", "every class needs a folder with images"):
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
