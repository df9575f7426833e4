"""ImageNet and other large images, loaded by worker processes from files at hand, or streamed from parquet files."""

import os

import numpy as np
import torch

from sparselearning.errors import UsageError
from utils.data.augmentation import generator
from utils.data.formats.row_groups import RowGroups
from utils.data.large_images import LargeImages, Samples
from utils.data.protocol import Splits
from utils.data.rows import EncodedRows, count_classes, first_rows, hold_out
from utils.data.sources import open_streams, read_large
from utils.data.stream import WORKERS, streamed

VALIDATION = 0, 2**32  # seed and epoch of an order that no run has


def load_imagenet(
    data: str,
    data_dir: str | None,
    device: torch.device,
    *,
    image_size: int,
    batch_size: int,
    streaming: bool = False,
    workers: int | None = None,
    limit_train: int | None = None,
    limit_test: int | None = None,
    valid_fraction: float = 0.0,
    label_column: str | None = None,
) -> Splits:
    """Loads the images of the folder `data_dir`, or of the Hub's data set `data`.

    The limits keep the first images of a split, in stored order; an ImageFolder is stored in turns, an image of each
    class at a time. `valid_fraction` of the training images that are left are held out, the same ones whatever the
    seed.

    Args:
        batch_size: images of a process and backward pass; the order of a stream depends on it.
        streaming: parquet files stay where they are, and are read when they are needed.
        workers: processes that load images; 0: this one does; None: as many as there are cores to spare.

    Raises:
        UsageError: data that cannot be read or streamed, and limits, fractions or workers that do not go with it.
    """
    if streaming and valid_fraction:
        raise UsageError("--valid-fraction would read the whole stream once more an epoch: leave it or --streaming out")
    if streaming and workers not in (None, *WORKERS):
        raise UsageError(f"--streaming takes --workers {', '.join(map(str, WORKERS))}, not {workers}")
    if workers is None:
        workers = min(n for n in WORKERS if n >= spare_cores()) if streaming else spare_cores()
    train, test = (open_streams if streaming else read_large)(data, data_dir, label_column)
    classes = len(train.classes) if streaming else count_classes(train, test)  # a stream's labels are yet unknown

    def images(rows: EncodedRows, index: np.ndarray, persistent: bool = False) -> LargeImages:
        if isinstance(rows, RowGroups):
            return LargeImages(streamed(rows, index, image_size, batch_size), classes, device, workers, persistent)
        return LargeImages(Samples(rows, index, image_size), classes, device, workers, persistent)

    index, test_index, valid = first_rows(train, limit_train), first_rows(test, limit_test), None
    fingerprint = f"{train.fingerprint(index)} {test.fingerprint(test_index)}"
    if valid_fraction:
        index, held_out = hold_out(generator(*VALIDATION).permutation(index), valid_fraction)
        valid = images(train, held_out)
    splits = images(train, index, persistent=True), valid, images(test, test_index)
    return Splits(*splits, classes, fingerprint=fingerprint, classes=test.classes or train.classes)


def spare_cores() -> int:
    """Worker processes for each process of the run: the cores of the machine but one, at most 8."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(8, max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", 1)) - 1))
