"""Photographs, decoded and cut by worker processes while the device computes; bytes until they are on the device.

An epoch, its order and every crop and flip, is a pure function of (seed, epoch, position): any number of workers,
processes and accumulation steps see the same samples, and a run can stop and resume between any two steps.
"""

import functools
import math
import os
import signal
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from sparselearning.errors import UsageError
from utils.command_line.options import ImageNetOptions
from utils.data.decoding import Box, resize
from utils.data.protocol import Batch, Range, Splits
from utils.data.sources import Photos, count_classes, decode, fingerprint, read_photos

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's channels, in units of 0..1
AREA, RATIO = (0.08, 1.0), (3 / 4, 4 / 3)  # of a training crop: part of the image, width over height
MARGIN = 256 / 224  # the shorter side of a test image before its centre is cut out

Draw = tuple[int, int]  # seed, epoch
Work = tuple[int, int, Draw | None]  # positions start..stop-1 of an epoch, or as stored


def dice(seed: int, epoch: int, position: int = -1) -> np.random.Generator:
    """Random numbers of one position, or of the order of an epoch (-1), from a generator that counts in any order."""
    key = np.array([seed % 2**64, epoch], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=[0, 0, position + 1, 0]))


@functools.lru_cache(maxsize=1)
def permutation(count: int, seed: int, epoch: int) -> np.ndarray:
    return dice(seed, epoch).permutation(count)


def random_box(height: int, width: int, rng: np.random.Generator) -> Box:
    """Where RandomResizedCrop cuts: a random part of the area at a random aspect ratio, or the centre."""
    for _ in range(10):
        area = height * width * rng.uniform(*AREA)
        ratio = math.exp(rng.uniform(math.log(RATIO[0]), math.log(RATIO[1])))
        h, w = round(math.sqrt(area / ratio)), round(math.sqrt(area * ratio))
        if 0 < h <= height and 0 < w <= width:
            return int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1)), h, w
    w = min(width, max(1, round(height * RATIO[1])))
    h = min(height, max(1, round(width / RATIO[0])))
    return (height - h) // 2, (width - w) // 2, h, w


def augment(pixels: Tensor, side: int, rng: np.random.Generator) -> Tensor:
    """A training image: a random resized crop, flipped half the time; bytes (side, side, 3)."""
    cut = resize(pixels, random_box(pixels.shape[0], pixels.shape[1], rng), side, side)
    return cut.flip(1) if rng.random() < 0.5 else cut


def centre(pixels: Tensor, side: int) -> Tensor:
    """A test image: the shorter side resized to 256/224 of `side`, and the centre cut out; bytes (side, side, 3)."""
    height, width = pixels.shape[:2]
    shorter, large = min(height, width), int(MARGIN * side)
    height, width = int(large * height / shorter), int(large * width / shorter)
    whole = resize(pixels, (0, 0, pixels.shape[0], pixels.shape[1]), height, width)
    top, left = round((height - side) / 2), round((width - side) / 2)
    return whole[top : top + side, left : left + side]


Loaded = tuple[Tensor, Tensor] | UsageError  # uint8 (B, side, side, 3) and labels, int64 (B,), or why there are none


@dataclass(frozen=True)
class Samples(Dataset[Loaded]):
    """What a worker process knows of a split."""

    photos: Photos
    rows: np.ndarray  # int64 (N,), those of `photos` that belong to the split
    side: int  # pixels

    def order(self, draw: Draw | None) -> np.ndarray:
        """The rows in the order of an epoch, or as stored."""
        return self.rows if draw is None else self.rows[permutation(len(self.rows), *draw)]

    def __getitem__(self, work: Work) -> Loaded:
        """Bytes (B, side, side, 3) and labels, int64 (B,); an error is returned, or a traceback would wrap it."""
        start, stop, draw = work
        rows = self.order(draw)[start:stop]
        batch = torch.empty(len(rows), self.side, self.side, 3, dtype=torch.uint8)
        try:
            for i, row in enumerate(rows.tolist()):
                pixels = decode(self.photos, row)
                rng = dice(*draw, start + i) if draw else None
                batch[i] = augment(pixels, self.side, rng) if rng else centre(pixels, self.side)
        except UsageError as error:
            return error
        return batch, self.photos.labels[rows]


def obey_parent_only(worker: int) -> None:
    """Signals often go to a whole group of processes; they are meant for the one that saves a checkpoint first."""

    def wait() -> None:
        while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
            pass
        os._exit(0)

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=wait, daemon=True).start()


class PhotoSet:
    """A split. Its epochs are shuffled and augmented; `clean` batches come as stored, their centres.

    Args:
        workers: processes that load batches; 0: this one does. Those of the training set stay between epochs.
    """

    def __init__(self, samples: Samples, num_classes: int, device: torch.device, workers: int, stay: bool) -> None:
        self.samples, self.num_classes, self.device = samples, num_classes, device
        mean, std = (255 * torch.tensor(value, device=device).repeat(samples.side) for value in (MEAN, STD))
        self.scale, self.shift = 1 / std, -mean / std  # for a row of pixels, so that whole rows are vectors
        self.work: list[Work] = []
        self.turn = 0
        self.loader: DataLoader[Loaded] = DataLoader(
            self.samples,
            batch_size=None,  # a sample of it is a whole batch already
            sampler=self.work,
            num_workers=workers,
            worker_init_fn=obey_parent_only,
            persistent_workers=stay and workers > 0,
            pin_memory=device.type == "cuda",
            generator=torch.Generator(),  # or it would draw from the one of the run
        )

    def __len__(self) -> int:
        return len(self.samples.rows)

    @property
    def side(self) -> int:
        return self.samples.side

    @property
    def labels(self) -> Tensor:
        """int64 (N,); -1 where they are not known yet."""
        return self.samples.photos.labels[self.samples.rows]

    def epoch(self, seed: int, epoch: int) -> "PhotoOrder":
        """The order and the augmentation of one epoch."""
        return PhotoOrder(self, (seed, epoch))

    def clean_batch(self, start: int, stop: int) -> Batch:
        """Samples start..stop-1: float32 (B, 3, side, side) in channels_last memory, int64 (B,)."""
        return self.arrive(self.samples[start, stop, None])

    def clean_batches(self, ranges: Iterable[Range]) -> Iterator[Batch]:
        """The clean batch of each (start, stop)."""
        return self.load([(start, stop, None) for start, stop in ranges])

    def load(self, work: list[Work]) -> Iterator[Batch]:
        """The batches, prepared ahead by the workers; one such stream at a time."""
        self.work[:] = work
        self.turn = turn = self.turn + 1
        try:
            stream = iter(self.loader)
            for _ in work:
                assert turn == self.turn, "another stream of batches has taken the workers"
                yield self.arrive(next(stream))
        except RuntimeError as error:
            if "DataLoader worker" not in str(error):
                raise
            raise UsageError(
                "a process that loads images has died: give the machine more memory (in a container also shared "
                "memory, as with docker --shm-size), or use --workers 0"
            ) from error

    def arrive(self, batch: Loaded) -> Batch:
        """Bytes to the device, and normalised there; what is NHWC seen as NCHW is channels_last: nothing is moved."""
        if isinstance(batch, UsageError):
            raise batch
        pixels, labels = (tensor.to(self.device, non_blocking=True) for tensor in batch)
        rows = pixels.flatten(2).float().mul_(self.scale).add_(self.shift)
        return rows.view(pixels.shape).permute(0, 3, 1, 2), labels


@dataclass(frozen=True)
class PhotoOrder:
    """One epoch over `data`."""

    data: PhotoSet
    draw: Draw

    def __len__(self) -> int:
        return len(self.data)

    def batch(self, start: int, stop: int) -> Batch:
        """Positions start..stop-1: float32 (B, 3, side, side) in channels_last memory, and labels, int64 (B,).

        Any cut of the epoch into ranges gives the same samples with the same crops.
        """
        return self.data.arrive(self.data.samples[start, stop, self.draw])

    def batches(self, ranges: Iterable[Range]) -> Iterator[Batch]:
        """The batch of each (start, stop)."""
        return self.data.load([(start, stop, self.draw) for start, stop in ranges])


def load_photos(args: ImageNetOptions, device: torch.device) -> Splits:
    """The data set `--data`, or that of the folder `--data-dir`.

    The limits keep the first samples of a split, in stored order; an ImageFolder is stored in turns, a sample of
    each class at a time. `--valid-fraction` of the training samples that are left are held out, the same ones whatever
    the seed.

    Raises:
        UsageError: data that cannot be read, and limits or fractions that leave nothing.
    """
    train, test = read_photos(args.data, args.data_dir, args.label_column)
    classes = count_classes(train, test)
    workers = spare_cores() if args.workers is None else args.workers

    def photo_set(photos: Photos, rows: np.ndarray, stay: bool = False) -> PhotoSet:
        return PhotoSet(Samples(photos, rows, args.image_size), classes, device, workers, stay)

    rows, test_rows, valid = first_rows(train, args.limit_train), first_rows(test, args.limit_test), None
    print_of = " ".join(fingerprint(*split) for split in ((train, rows), (test, test_rows)))
    if args.valid_fraction:
        held_out = round(args.valid_fraction * len(rows))
        if not 0 < held_out < len(rows):
            raise UsageError(f"--valid-fraction {args.valid_fraction} of {len(rows)} images leaves a set empty")
        shuffled = dice(0, 2**32).permutation(rows)  # an epoch that no run has
        rows, valid = np.sort(shuffled[held_out:]), photo_set(train, np.sort(shuffled[:held_out]))
    return Splits(photo_set(train, rows, stay=True), valid, photo_set(test, test_rows), classes, fingerprint=print_of)


def first_rows(photos: Photos, limit: int | None) -> np.ndarray:
    count = len(photos.labels)
    if limit is not None and not 1 <= limit <= count:
        raise UsageError(f"cannot take the first {limit} of {photos.where}: give 1 to {count}")
    return np.arange(count if limit is None else limit)


def spare_cores() -> int:
    """Worker processes for each process of the run: the cores of the machine but one, at most 8."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(8, max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", 1)) - 1))
