"""Rows: one split of labeled images in whatever form it is kept, and which of them a run takes."""

import contextlib
import hashlib
from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sparselearning.errors import UsageError
from utils.data.decoding import decode_image
from utils.files.errors import DamagedImageError

SAMPLED = 64  # images of a split that its fingerprint reads


@dataclass
class Rows(ABC):
    """One split, small enough to send to worker processes.

    Attributes:
        where: what to call it in a message.
        labels: int64 (N,); -1 where they are not known yet.
        classes: a name per label; empty where the source does not tell.
    """

    where: str
    labels: Tensor
    classes: list[str]

    def __len__(self) -> int:
        return len(self.labels)

    @abstractmethod
    def pixels(self, row: int) -> Tensor:
        """An image as a viewer shows it, upright and in color: uint8 (H, W, 3).

        Raises:
            DamagedImageError: it is missing, truncated or no image; the message names it.
        """

    def name(self, row: int) -> str:
        """What to call an image in a message."""
        return f"row {row} of {self.where}"


@dataclass
class Pixels(Rows):
    """A split that comes decoded."""

    images: np.ndarray  # uint8 (N, H, W, 3)

    def pixels(self, row: int) -> Tensor:
        return torch.from_numpy(self.images[row])


class EncodedRows(Rows):
    """A split of encoded images, of which none is decoded before it is needed."""

    @abstractmethod
    def read(self, row: int) -> bytes:
        """The encoded image; empty where there is none."""

    @abstractmethod
    def listing(self) -> bytes:
        """What is known of all images without reading them, and is the same wherever they lie."""

    def pixels(self, row: int) -> Tensor:
        try:
            return decode_image(self.read(row))
        except Exception as error:  # Pillow's decoders fail with whatever the damage leads them to
            reason = getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__
            reason = "it is no image" if "cannot identify" in reason else reason
            raise DamagedImageError(f"{self.name(row)} is not a readable image: {reason}; copy it again") from error

    def fingerprint(self, rows: np.ndarray) -> str:
        """Tells these rows from others of the same number: by the listing, and by labels and some contents of rows."""
        digest = hashlib.sha256(self.listing() + self.labels[rows].numpy().tobytes())
        for row in rows[:: max(1, len(rows) // SAMPLED)].tolist():
            with contextlib.suppress(OSError, ValueError):  # a run will say it where it needs this image
                digest.update(self.read(row))
        return digest.hexdigest()[:16]


def first_rows(rows: Rows, limit: int | None) -> np.ndarray:
    """The index, int64 (N,), of the first `limit` rows; None: of all. Raises UsageError where there are not so many."""
    if limit is not None and not 1 <= limit <= len(rows):
        raise UsageError(f"cannot take the first {limit} of {rows.where}: give 1 to {len(rows)}")
    return np.arange(len(rows) if limit is None else limit)


def hold_out(shuffled: np.ndarray, fraction: float) -> tuple[np.ndarray, np.ndarray]:
    """The rows that are left to train on, and those held out for validation, both in stored order.

    Args:
        shuffled: all of them, int64 (N,), in a random order that is the same whatever the seed of a run: so tickets of
            several runs can be judged by images that none of them was trained on.
        fraction: of them that is held out.

    Raises:
        UsageError: the fraction is not in [0, 1), or leaves one of the two empty.
    """
    if not 0 <= fraction < 1:
        raise UsageError(f"--valid-fraction {fraction} is not in [0, 1): give the part to hold out, such as 0.1")
    count = round(fraction * len(shuffled))
    if not 0 < count < len(shuffled):
        raise UsageError(f"--valid-fraction {fraction} of {len(shuffled)} images leaves a set empty: change it")
    return np.sort(shuffled[count:]), np.sort(shuffled[:count])


def count_classes(train: Rows, test: Rows, expected: int | None = None) -> int:
    """As many as they name, else as their labels need. Raises UsageError where they are not those `expected`."""
    count = expected or len(train.classes or test.classes) or int(max(train.labels.max(), test.labels.max())) + 1
    for split in (train, test):
        if len(split.classes) not in (0, count):
            found = len(split.classes)
            raise UsageError(f"{split.where} has {found} classes, not {count}: check --data and --data-dir")
        check_labels(split.labels.numpy(), count, split.where)
    return count


def same_classes(train: Rows, test: Rows, where: str) -> None:
    """Raises UsageError where a label does not mean the same in both, if they say what it means."""
    unshared = sorted(set(train.classes) ^ set(test.classes))
    if train.classes and test.classes and train.classes != test.classes:
        raise UsageError(
            f"{where} has class {unshared[0]} in only one of {train.where} and {test.where}: give both the same classes"
            if unshared
            else f"the classes of {train.where} and {test.where} are in another order: give both the same"
        )


def check_labels(
    labels: np.ndarray, count: int | None, where: str, first: int = 0, kind: type[UsageError] = UsageError
) -> None:
    """Labels of the rows from `first` on must be there (not NaN), and of `count` classes; None: of any number of them.

    Raises:
        kind: one of them is not.
    """
    if not (good := (labels >= 0) & (labels < (count or np.inf))).all():
        row = int(np.argmin(good))
        fits = f"0..{count - 1}" if count else "0 or more"
        wrong = "no label" if np.isnan(labels[row]) else f"label {labels[row]:g}, not {fits}"
        raise kind(f"row {first + row} of {where} has {wrong}: check --data, --data-dir and --label-column")
