"""Where small images come from: the Hub, scikit-learn, or a local folder in any of the forms people keep them in.

Every form becomes the same thing: pixels and labels of a split, on the CPU. Whatever is wrong with a source is raised
here as one line that names the file or the row.
"""

from __future__ import annotations

import hashlib
import pickle
from dataclasses import dataclass
from pathlib import Path

import datasets
import numpy as np
import pyarrow.parquet as pq
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor
from torchvision.datasets import CIFAR10, CIFAR100
from tqdm import tqdm

from sparselearning.errors import UsageError
from utils.command_line.errors import DamagedImageError, blame
from utils.data.decoding import resize
from utils.data.folders import HELD_OUT, existing
from utils.data.sources import Photos, decode, keep_quiet, read_folder, read_hub
from utils.data.tables import Tables, refuse_column
from utils.files.whole import read_whole

SIDE = 32  # pixels of an image, unless others are asked for
SPLITS = ("train", "test")
TEST = ("test", *HELD_OUT)  # the first that is there
DIGITS_TEST = 360  # images held out of the 1797


@dataclass(frozen=True)
class Pixels:
    """One split that comes decoded."""

    where: str
    images: np.ndarray  # uint8 (N, 32, 32, 3)
    labels: Tensor  # int64 (N,)
    classes: list[str]


Source = Photos | Pixels  # one split


def read_sources(name: str, data_dir: str | None, label_column: str | None = None) -> tuple[Source, Source]:
    """The training and test split of the data set `name`, from the folder `data_dir` or, without one, from its home.

    Raises UsageError, in one line with the remedy, for anything that keeps a split from being read.
    """
    keep_quiet()
    if name == "digits":
        if data_dir is not None:
            raise UsageError("the digits come with scikit-learn: leave out --data-dir")
        refuse_column(label_column, "the digits")
        return _digits()
    if data_dir is None:
        remedy = "give --data-dir FOLDER with a local copy"
        return read_hub(f"uoft-cs/{name}", TEST, f"cannot reach the Hub for uoft-cs/{name}", remedy, label_column)
    folder = existing(data_dir)
    binary = CIFAR100 if name == "cifar100" else CIFAR10
    for base in (folder, folder / binary.base_folder):
        if (base / binary.meta["filename"]).is_file():
            refuse_column(label_column, str(base))
            return _cifar_files(binary, base)
    return read_folder(folder, TEST, _in_memory, label_column)


def decode_all(source: Source, limit: int | None, side: int, native: int | None) -> tuple[Tensor, Tensor]:
    """The first `limit` samples (all, if None): pixels, uint8 (N, side, side, 3), and labels, int64 (N,), on the CPU.

    Args:
        native: pixels of a side that the images must have; None: they are resized, whatever they have.

    Raises:
        UsageError: a limit outside 1..N, damaged images and those of another size than `native`.
    """
    if limit is not None and not 1 <= limit <= len(source.labels):
        raise UsageError(f"cannot take the first {limit} of {source.where}: give 1 to {len(source.labels)}")
    labels = source.labels[:limit]
    pixels = torch.empty(len(labels), side, side, 3, dtype=torch.uint8)
    # One thread: PIL holds the interpreter's lock for most of so small an image, and a pool only adds overhead.
    # disable=None: a bar on a terminal, silence elsewhere.
    for row in tqdm(range(len(labels)), f"decoding {source.where}", disable=None, leave=False):
        if isinstance(source, Pixels):
            image = torch.from_numpy(source.images[row])
        else:
            try:
                image = decode(source, row)
            except DamagedImageError as error:
                raise UsageError(str(error)) from error  # which every process meets
        height, width = image.shape[:2]
        if native is not None and (height, width) != (native, native):
            place = source.where if isinstance(source, Pixels) else source.name(row)
            raise UsageError(f"{place} is {width}×{height} pixels, not {native}×{native}: resize it or check --data")
        pixels[row] = image if height == width == side else resize(image, (0, 0, height, width), side, side)
    return pixels, labels


def _in_memory(files: dict[str, list[str]]) -> Tables:
    """Tables read straight into memory: unlike `load_dataset`, this leaves no second copy in the user's cache."""
    tables = {}
    for split, names in files.items():
        parts = []
        for name in names:
            with blame(f"cannot read {name}", "copy it again"):
                parts.append(datasets.Dataset(pq.read_table(name)))
        where = Path(names[0]).parent
        with blame(f"the {split} files of {where} do not fit together", "keep the files of one data set there"):
            tables[split] = datasets.concatenate_datasets(parts)
    return tables


def _cifar_files(binary: type[CIFAR10], base: Path) -> tuple[Source, Source]:
    """The files of torchvision, in the formats and with the digests that it knows."""

    def content(name: str, digest: str) -> dict:
        """Only what is known is ever unpickled, and it is read once: a file may change between two looks at it."""
        with blame(f"cannot read the CIFAR files in {base}", "download and unpack them again"):
            encoded = read_whole(base / name)
            if hashlib.md5(encoded).hexdigest() != digest:
                raise ValueError(f"{name} is not as it was published")
            return pickle.loads(encoded, encoding="latin1")

    classes = content(binary.meta["filename"], binary.meta["md5"])[binary.meta["key"]]
    splits = []
    for split, files in zip(SPLITS, (binary.train_list, binary.test_list), strict=True):
        parts = [content(*file) for file in files]
        labels = [label for part in parts for label in part.get("labels") or part["fine_labels"]]
        rows = np.concatenate([part["data"] for part in parts]).reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1)
        splits.append(Pixels(f"the {split} split of {base}", rows, torch.tensor(labels), classes))
    return splits[0], splits[1]


def _digits() -> tuple[Source, Source]:
    """scikit-learn's 1797 digits, 8 × 8 with values 0..16, enlarged; the split is the same for all seeds."""
    digits = load_digits()
    small = torch.from_numpy(digits.images).float().mul(255 / 16)[:, None]
    large = F.interpolate(small, size=(SIDE, SIDE), mode="bilinear").round().byte()
    pixels = large.permute(0, 2, 3, 1).expand(-1, -1, -1, 3).numpy()
    rows = train_test_split(np.arange(len(pixels)), test_size=DIGITS_TEST, stratify=digits.target, random_state=0)
    names = [str(name) for name in digits.target_names]
    train, test = (
        Pixels(f"the {split} split of the digits", pixels[index], torch.from_numpy(digits.target[index]).long(), names)
        for split, index in zip(SPLITS, rows, strict=True)
    )
    return train, test
