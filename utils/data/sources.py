"""Where encoded images come from: the Hub, or a local folder with images, parquet files or a saved data set.

Nothing is decoded before it is needed. Every form becomes the same thing: `Photos`, a split of encoded images by row
and their labels, small enough to send to worker processes.
"""

import contextlib
import glob
import hashlib
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import datasets
import huggingface_hub.constants
import huggingface_hub.utils as hub
import numpy as np
import torch
from torch import Tensor

from sparselearning.errors import UsageError
from utils.command_line.errors import DamagedImageError, blame
from utils.data.decoding import decode_image
from utils.data.folders import HELD_OUT, SPLITS, TRAIN, check_file, class_folders, existing, parquet_files, split_named
from utils.data.tables import Tables, check_labels, refuse_column, table_of
from utils.files.whole import read_whole

TEST = (*HELD_OUT, "test")  # ImageNet's own test labels are secret
SAMPLED = 64  # images of a split that its fingerprint reads


class Labelled(Protocol):
    """One split. `classes` has a name per label, or is empty where the source does not tell."""

    @property
    def where(self) -> str: ...
    @property
    def labels(self) -> Tensor: ...  # int64 (N,)
    @property
    def classes(self) -> list[str]: ...


class Photos(Labelled, Protocol):
    """One split of encoded images."""

    def read(self, row: int) -> bytes:
        """The encoded image; empty where there is none."""

    def name(self, row: int) -> str:
        """What to call it in a message."""

    def marks(self) -> bytes:
        """What is known of all images unread, and is the same wherever they lie."""


@dataclass
class Folder:
    """Files in a folder per class."""

    where: str
    paths: np.ndarray  # bytes (N,)
    labels: Tensor
    classes: list[str]

    def read(self, row: int) -> bytes:
        return read_whole(self.name(row))

    def name(self, row: int) -> str:
        return os.fsdecode(self.paths[row])

    def marks(self) -> bytes:
        return b"\0".join(map(os.path.basename, self.paths.tolist()))


def decode(photos: Photos, row: int) -> Tensor:
    """The pixels of an image as a viewer shows it, upright and in colour: uint8 (H, W, 3).

    Raises:
        DamagedImageError: it is missing, truncated or no image; the message names it.
    """
    try:
        return decode_image(photos.read(row))
    except Exception as error:  # Pillow's decoders fail with whatever the damage leads them to
        reason = getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__
        reason = "it is no image" if "cannot identify" in reason else reason
        raise DamagedImageError(f"{photos.name(row)} is not a readable image: {reason}; copy it again") from error


def fingerprint(photos: Photos, rows: np.ndarray) -> str:
    """Tells the images of a split from others of the same number: by marks, and the labels and some contents of rows.
    """
    digest = hashlib.sha256(photos.marks() + photos.labels[rows].numpy().tobytes())
    for row in rows[:: max(1, len(rows) // SAMPLED)].tolist():
        with contextlib.suppress(OSError, ValueError):  # a run will say it where it needs this image
            digest.update(photos.read(row))
    return digest.hexdigest()[:16]


def read_photos(name: str, data_dir: str | None, label_column: str | None = None) -> tuple[Photos, Photos]:
    """Training and test photographs: those of the folder `data_dir`, or of the Hub's data set `name`.

    Raises:
        UsageError: in one line with the remedy, for whatever keeps a split from being read.
    """
    keep_quiet()
    if data_dir is None:
        return read_hub(name, TEST, f"cannot get {name} from the Hub", how_to_get(name), label_column)
    return read_folder(existing(data_dir), TEST, on_disk, label_column)


def read_hub(
    name: str, test: Sequence[str], mistake: str, remedy: str, label_column: str | None
) -> tuple[Photos, Photos]:
    """The splits of a data set of the Hub; for messages, what is wrong if it cannot be had, and what to do."""
    with blame(mistake, remedy):
        tables = datasets.load_dataset(name)
    caches = datasets.config.HF_DATASETS_CACHE, huggingface_hub.constants.HF_HUB_CACHE
    return _tables(dict(tables), test, name, tuple(map(Path, caches)), label_column)


def read_folder(
    folder: Path,
    test: Sequence[str],
    open_parquet: Callable[[dict[str, list[str]]], Tables],
    label_column: str | None = None,
) -> tuple[Photos, Photos]:
    """Training split, and the first split among `test`, of a folder in any of the forms.

    Raises:
        UsageError: it has none of them, and whatever keeps them from being read.
    """
    if (folder / "dataset_dict.json").is_file():
        for path in folder.rglob("*"):
            if not path.is_dir():
                check_file(path)
        with blame(f"cannot read {folder}", "save it again with save_to_disk"):
            saved = datasets.DatasetDict.load_from_disk(str(folder))
        return _tables(dict(saved), test, str(folder), (folder,), label_column)
    if files := parquet_files(folder):
        return _tables(open_parquet(files), test, str(folder), (folder,), label_column)
    refuse_column(label_column, str(folder))
    return _image_folders(folder, test)


def on_disk(files: dict[str, list[str]]) -> Tables:
    """Parquet files as a copy in the user's cache, which is mapped into memory, with every row quick to reach."""
    names = {split: [glob.escape(name) for name in own] for split, own in files.items()}  # they are read as patterns
    with blame("cannot read the parquet files", "copy them again"):
        return dict(datasets.load_dataset("parquet", data_files=names))


def keep_quiet() -> None:
    """Bars and the Hub's retries would fill a log."""
    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
        hub.disable_progress_bars()
        hub.logging.set_verbosity_error()


def how_to_get(name: str) -> str:
    gated = f"accept its terms at https://huggingface.co/datasets/{name} and log in with `hf auth login`, or "
    return (gated if name == "ILSVRC/imagenet-1k" else "") + (
        "name a local copy with --data-dir FOLDER (train/CLASS/ and val/CLASS/ with images, parquet, or save_to_disk)"
    )


def _tables(
    tables: Tables, test: Sequence[str], where: str, homes: tuple[Path, ...], label_column: str | None
) -> tuple[Photos, Photos]:
    first, second = (table_of(tables, names, where, homes, label_column) for names in (TRAIN, test))
    same_classes(first, second, where)
    return first, second


def _image_folders(folder: Path, test: Sequence[str]) -> tuple[Photos, Photos]:
    splits = [split for split in SPLITS if (folder / split).is_dir()]
    if not splits:
        raise UsageError(
            f"{folder} holds no images in a form that is known: --data-dir takes parquet files, train/CLASS/ and "
            f"test/CLASS/ with images, a DatasetDict from save_to_disk, or for main_cifar.py torchvision's CIFAR files"
        )
    first, second = (_image_folder(folder, split_named(names, splits, str(folder))) for names in (TRAIN, test))
    same_classes(first, second, str(folder))
    return first, second


def _image_folder(folder: Path, split: str) -> Folder:
    paths, labels, classes = class_folders(folder / split)
    return Folder(f"the {split} split of {folder}", paths, torch.from_numpy(labels), classes)


def count_classes(train: Labelled, test: Labelled, expected: int | None = None) -> int:
    """As many as they name, else as their labels need. Raises UsageError where they are not those `expected`."""
    count = expected or len(train.classes or test.classes) or int(max(train.labels.max(), test.labels.max())) + 1
    for split in (train, test):
        if len(split.classes) not in (0, count):
            found = len(split.classes)
            raise UsageError(f"{split.where} has {found} classes, not {count}: check --data and --data-dir")
        check_labels(split.labels.numpy(), count, split.where)
    return count


def same_classes(train: Labelled, test: Labelled, where: str) -> None:
    """A label must mean the same in both, where they say what it means."""
    odd = sorted(set(train.classes) ^ set(test.classes))
    if train.classes and test.classes and train.classes != test.classes:
        raise UsageError(
            f"{where} has class {odd[0]} in only one of {train.where} and {test.where}: give both the same classes"
            if odd
            else f"the classes of {train.where} and {test.where} are in another order: give both the same"
        )
