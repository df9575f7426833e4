"""Where photographs come from: the Hub, or a local folder with images, parquet files or a saved data set.

Nothing is decoded before it is needed. Every form becomes the same thing: `Photos`, a split of encoded images by row
and their labels, small enough to send to worker processes.
"""

import contextlib
import io
import os
import re
import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import datasets
import huggingface_hub.utils as hub
import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torchvision.datasets import ImageFolder

from sparselearning.errors import UsageError
from utils.errors import DamagedImageError
from utils.sources import blame, columns

try:
    from torchcodec.decoders import decode_jpeg
except Exception:  # not installed, too old for images, or built for another torch
    decode_jpeg = None

JPEG = b"\xff\xd8"
TRAIN, TEST = ("train",), ("val", "validation", "valid", "test")  # ImageNet's own test labels are secret


class Photos(Protocol):
    """One split. `classes` has a name per label, or is empty where the source does not tell."""

    where: str
    labels: Tensor  # int64 (N,)
    classes: list[str]

    def read(self, row: int) -> bytes:
        """The encoded image; empty where there is none."""

    def name(self, row: int) -> str:
        """What to call it in a message."""


@dataclass
class Folder:
    """Files in a folder per class."""

    where: str
    paths: np.ndarray  # bytes (N,); not a million Python strings, whose memory every worker would copy by counting
    labels: Tensor
    classes: list[str]

    def read(self, row: int) -> bytes:
        with open(self.name(row), "rb") as file:
            return file.read()

    def name(self, row: int) -> str:
        return os.fsdecode(self.paths[row])


@dataclass
class Table:
    """A memory-mapped table of the `datasets` library with a column of encoded images."""

    where: str
    table: datasets.Dataset
    column: str
    labels: Tensor
    classes: list[str]

    def read(self, row: int) -> bytes:
        cell = self.table[row][self.column] or {}
        if cell.get("bytes") is None and cell.get("path"):
            return Path(cell["path"]).read_bytes()
        return cell.get("bytes") or b""

    def name(self, row: int) -> str:
        return f"row {row} of {self.where}"


def decode(photos: Photos, row: int) -> Tensor:
    """The pixels of an image as a viewer shows it, upright and in colour: uint8 (H, W, 3).

    torchcodec, where it is installed, and Pillow read JPEG to the same bits.

    Raises:
        DamagedImageError: it is missing, truncated or no image; the message names it.
    """
    try:
        encoded = photos.read(row)
        if decode_jpeg is not None and encoded.startswith(JPEG):
            with contextlib.suppress(RuntimeError, ValueError):  # Pillow may know better
                return decode_jpeg(encoded).permute(1, 2, 0)
        return torch.from_numpy(_decode_with_pillow(encoded))
    except Exception as error:  # Pillow's decoders fail with whatever the damage leads them to
        reason = " ".join(str(error).split()) or type(error).__name__
        reason = "it is no image" if "cannot identify" in reason else reason
        raise DamagedImageError(f"{photos.name(row)} is not a readable image: {reason}; copy it again") from error


def _decode_with_pillow(encoded: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(encoded)) as image:
        ImageOps.exif_transpose(image, in_place=True)
        if image.mode.startswith("I"):  # 16 bits of grey, which convert() would clip to white
            grey = (np.asarray(image).clip(0, 65535) >> 8).astype(np.uint8)
            return np.repeat(grey[:, :, None], 3, axis=2)
        return np.array(image if image.mode == "RGB" else image.convert("RGB"))


def read_photos(name: str, data_dir: str | None) -> tuple[Photos, Photos]:
    """Training and test photographs: those of the folder `data_dir`, or of the Hub's data set `name`.

    Raises:
        UsageError: in one line with the remedy, for whatever keeps a split from being read.
    """
    keep_quiet()
    if data_dir is None:
        with blame(f"cannot get {name} from the Hub", how_to_get(name)):
            tables = datasets.load_dataset(name)
        return _tables(dict(tables), name)
    folder = existing(data_dir)
    if (folder / "dataset_dict.json").is_file():
        with blame(f"cannot read {folder}", "save it again with save_to_disk"):
            tables = datasets.load_from_disk(str(folder))
        return _tables(dict(tables), str(folder))
    if files := parquet_files(folder):
        with blame(f"cannot read the parquet files of {folder}", "copy them again"):
            tables = datasets.load_dataset("parquet", data_files=files)  # a copy with every row quick to reach
        return _tables(dict(tables), str(folder))
    return _image_folders(folder)


def keep_quiet() -> None:
    """Bars and the Hub's retries would fill a log."""
    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
        hub.disable_progress_bars()
        hub.logging.set_verbosity_error()


def existing(data_dir: str) -> Path:
    folder = Path(data_dir).expanduser()
    if not folder.is_dir():
        raise UsageError(f"no folder {folder}: give --data-dir the folder with train/ and val/")
    return folder


def how_to_get(name: str) -> str:
    gated = f"accept its terms at https://huggingface.co/datasets/{name} and log in with `hf auth login`, or "
    return (gated if name == "ILSVRC/imagenet-1k" else "") + (
        "name a local copy with --data-dir FOLDER (train/CLASS/ and val/CLASS/ with images, parquet, or save_to_disk)"
    )


def parquet_files(folder: Path) -> dict[str, list[str]]:
    """The files of each split, in their order."""
    shards: dict[str, list[str]] = {}
    for file in sorted(folder.rglob("*.parquet")):
        if split := _split_of(file.relative_to(folder)):
            shards.setdefault(split, []).append(str(file))
    for split, names in shards.items():
        if (total := re.search(r"-of-(\d+)\.parquet$", names[0])) and int(total[1]) != len(names):
            raise UsageError(f"{folder} has {len(names)} of {int(total[1])} {split} files: copy the others too")
    return shards


def _split_of(path: Path) -> str | None:
    """The split that a path names: data/train-00000-of-00294.parquet, validation/0000.parquet."""
    words = [re.findall("[a-z]+", part.lower()) for part in reversed(path.parts)]
    return next((split for part in words for split in (*TRAIN, *TEST) if split in part), None)


def _tables(tables: dict[str, datasets.Dataset], where: str) -> tuple[Photos, Photos]:
    train, test = (_table(tables, names, where) for names in (TRAIN, TEST))
    same_classes(train, test, where)
    return train, test


def _table(tables: dict[str, datasets.Dataset], names: Sequence[str], where: str) -> Table:
    split = split_named(names, tables, where)
    where, table = f"the {split} split of {where}", tables[split]
    image, label = columns(table.features, where)
    with blame(f"cannot read {where}", "copy it again"):
        table = table.select_columns([image, label]).cast_column(image, datasets.Image(decode=False))
        labels = np.asarray(table[label][:], dtype=np.float64)  # a missing one is NaN
    classes = getattr(table.features[label], "names", None) or []
    if len(table) == 0:
        raise UsageError(f"{where} is empty: check --data-dir")
    count = len(classes) or np.inf
    if not (good := (labels >= 0) & (labels < count)).all():
        row = int(np.argmin(good))
        raise UsageError(f"row {row} of {where} has label {labels[row]:g}, outside 0..{count - 1}: check the data")
    return Table(where, table, image, torch.from_numpy(labels.astype(np.int64)), list(classes))


def split_named(names: Sequence[str], splits: Collection[str], where: str) -> str:
    """The first of `names` that is there."""
    split = next((name for name in names if name in splits), None)
    if split is None:
        raise UsageError(f"{where} has no split {' or '.join(names)}, but {', '.join(splits) or 'nothing'}: add one")
    return split


def _image_folders(folder: Path) -> tuple[Photos, Photos]:
    train, test = (_image_folder(folder, names) for names in (TRAIN, TEST))
    same_classes(train, test, str(folder))
    return train, test


def _image_folder(folder: Path, names: Sequence[str]) -> Folder:
    """In the order first of every class, second of every class ...: the first N are a fair sample."""
    split = next((folder / name for name in names if (folder / name).is_dir()), None)
    if split is None:
        raise UsageError(
            f"{folder} has no folder {' or '.join(names)}: --data-dir takes train/CLASS/ and val/CLASS/ with images, "
            f"parquet files, or a DatasetDict from save_to_disk"
        )
    with blame(f"cannot read {split}", "every class needs a folder with images"):
        found = ImageFolder(str(split))
    labels = np.asarray(found.targets)
    starts = np.searchsorted(labels, np.arange(len(found.classes)))  # ImageFolder lists class by class
    order = np.lexsort((labels, np.arange(len(labels)) - starts[labels]))
    paths = np.array([os.fsencode(path) for path, _ in found.samples])[order]
    return Folder(str(split), paths, torch.from_numpy(labels[order]), found.classes)


def same_classes(train: Photos, test: Photos, where: str) -> None:
    """A label must mean the same in both."""
    odd = sorted(set(train.classes) ^ set(test.classes))
    if odd or train.classes != test.classes:
        raise UsageError(
            f"{where} has class {odd[0]} in only one of {train.where} and {test.where}: give both the same classes"
            if odd
            else f"the classes of {train.where} and {test.where} are in another order: give both the same"
        )
