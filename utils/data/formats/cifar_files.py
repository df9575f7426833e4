"""CIFAR in the files that torchvision downloads: cifar-10-batches-py and cifar-100-python."""

import hashlib
import pickle
from pathlib import Path
from typing import TypedDict

import numpy as np
import torch
from torchvision.datasets import CIFAR10, CIFAR100

from utils.data.formats.tables import refuse_column
from utils.data.recipes import SIDE
from utils.data.rows import Pixels
from utils.files.errors import explained
from utils.files.whole import read_whole


class Content(TypedDict, total=False):
    """What is in a file: a part of the images and their labels, or the names of the classes."""

    data: np.ndarray  # (N, 3072) bytes, channel by channel
    labels: list[int]
    fine_labels: list[int]
    label_names: list[str]
    fine_label_names: list[str]


def read_cifar_files(data: str, folder: Path, label_column: str | None) -> tuple[Pixels, Pixels] | None:
    """Training and test split of a folder, in the formats and with the digests that torchvision knows.

    Returns:
        None where the folder holds no such files.

    Raises:
        UsageError: they cannot be read, or are not as they were published.
    """
    known = CIFAR100 if data == "cifar100" else CIFAR10
    for base in (folder, folder / known.base_folder):
        if (base / known.meta["filename"]).is_file():
            refuse_column(label_column, str(base))
            meta = _content(base, known.meta["filename"], known.meta["md5"])
            classes = meta.get("label_names") or meta["fine_label_names"]
            train, test = (
                _split(f"the {split} split of {base}", [_content(base, *file) for file in files], classes)
                for split, files in (("train", known.train_list), ("test", known.test_list))
            )
            return train, test
    return None


def _content(base: Path, name: str, digest: str) -> Content:
    """Only what is known is ever unpickled, and it is read once: a file may change between two looks at it."""
    with explained(f"cannot read the CIFAR files in {base}", "download and unpack them again"):
        encoded = read_whole(base / name)
        if hashlib.md5(encoded).hexdigest() != digest:
            raise ValueError(f"{name} is not as it was published")
        content: Content = pickle.loads(encoded, encoding="latin1")
        return content


def _split(where: str, parts: list[Content], classes: list[str]) -> Pixels:
    labels = [label for part in parts for label in part.get("labels") or part["fine_labels"]]
    pixels = np.concatenate([part["data"] for part in parts]).reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1)
    return Pixels(where, torch.tensor(labels), classes, pixels)
