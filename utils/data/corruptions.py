"""Corrupted test images: CIFAR-10-C, CIFAR-100-C and ImageNet-C as published, or computed from the test images.

Hendrycks and Dietterich 2019, Benchmarking neural network robustness to common corruptions and perturbations.
"""

import inspect
import warnings
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sparselearning.errors import UsageError
from utils.data.folders import existing
from utils.data.formats.image_folder import read_class_folders
from utils.data.other_sets import OtherSets
from utils.data.protocol import Images
from utils.data.rows import Rows, check_labels
from utils.files.errors import explained

SEVERITIES = (1, 2, 3, 4, 5)
SMALLEST = 32  # pixels of a side that the corruptions are defined for

Corrupted = Mapping[str, Iterator[Images]]  # {corruption: a set of images for each severity}


def corrupted(place: str | None, sets: OtherSets) -> Corrupted:
    """The corrupted images of a folder; None: computed ones.

    Raises:
        UsageError: the folder holds none, or they cannot be read or computed.
    """
    if place is None:
        return computed(sets)
    folder = existing(place, "give --corruptions the folder of CIFAR-10-C or ImageNet-C, or none to compute them")
    arrays = sorted(file for file in folder.glob("*.npy") if file.name != "labels.npy")
    if arrays:
        return {file.stem: published_arrays(file, sets) for file in arrays}
    found = sorted({path.parent for depth in ("*/1", "*/*/1") for path in folder.glob(depth) if path.is_dir()})
    if not found:
        raise UsageError(
            f"{folder} holds no corrupted images: --corruptions takes CIFAR-10-C (gaussian_noise.npy, labels.npy, ...) "
            f"or ImageNet-C (gaussian_noise/1/CLASS/ with images, ...)"
        )
    return {path.name: published_folders(path, sets) for path in found}


# ---- as published ----------------------------------------------------------------------------------------------------


@dataclass
class ArrayRows(Rows):
    """Images of a file that stays on the disk."""

    images: np.ndarray  # uint8 (5 N, H, W, 3)

    def pixels(self, row: int) -> Tensor:
        return torch.from_numpy(np.array(self.images[row]))


def published_arrays(file: Path, sets: OtherSets) -> Iterator[Images]:
    """NAME.npy: the N test images at every severity, one after the other, and their labels in labels.npy."""
    with explained(f"cannot read {file}", "copy it and the labels.npy beside it again"):
        images, labels = np.load(file, mmap_mode="r"), np.load(file.with_name("labels.npy"))
        count, rest = divmod(len(images), len(SEVERITIES))
        colored = images.dtype == np.uint8 and images.ndim == 4 and images.shape[3] == 3
        if not colored or rest or len(labels) not in (count, len(images)):
            raise ValueError(f"{images.dtype} {images.shape} with {len(labels)} labels are no images at 5 severities")
    check_labels(labels, sets.test.num_classes, str(file))
    known = torch.from_numpy(np.resize(labels, len(images)).astype(np.int64))
    rows = ArrayRows(str(file), known, [], images)
    for start in range(0, len(images), count):
        yield sets.images(rows, np.arange(start, start + min(sets.limit or count, count)))


def published_folders(folder: Path, sets: OtherSets) -> Iterator[Images]:
    """NAME/1/CLASS/ to NAME/5/CLASS/."""
    for severity in SEVERITIES:
        rows = read_class_folders(folder / str(severity))
        rows.labels = sets.labels_of(rows)[rows.labels]
        yield sets.images(rows)


# ---- computed --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Corruption:
    """One of those of the package imagecorruptions, the same for an image whatever process computes it."""

    name: str
    severity: int

    def __call__(self, pixels: np.ndarray, row: int) -> np.ndarray:
        from imagecorruptions import corrupt, corruptions

        seed, state = zlib.crc32(f"{self.name} {self.severity} {row}".encode()), np.random.get_state()
        takes_seed = "seed" in inspect.signature(getattr(corruptions, self.name)).parameters
        np.random.seed(seed)  # which the others draw from
        try:
            with warnings.catch_warnings():  # spatter divides by zero where no drop falls
                warnings.simplefilter("ignore")
                return np.array(corrupt(pixels, self.severity, self.name, **({"seed": seed} if takes_seed else {})))
        finally:
            np.random.set_state(state)


def computed(sets: OtherSets) -> Corrupted:
    """All 19 corruptions of the test images."""
    try:
        from imagecorruptions import get_corruption_names
    except (ImportError, AttributeError) as error:  # not installed, or the one that numpy 2 has left behind
        raise UsageError(
            "--corruptions without a folder needs a package that computes them: pip install imagecorruptions-imaug, or "
            f"give the folder of CIFAR-10-C or ImageNet-C ({error})"
        ) from error
    if sets.test.side < SMALLEST:
        raise UsageError(f"images of {sets.test.side} pixels are too small to corrupt: they need {SMALLEST} a side")
    return {name: computed_severities(name, sets) for name in get_corruption_names("all")}


def computed_severities(name: str, sets: OtherSets) -> Iterator[Images]:
    for severity in SEVERITIES:
        yield sets.changed(Corruption(name, severity))
