"""CIFAR-sized data, decoded once into bytes on the device, and cropped and flipped there in batches.

Fifty thousand padded images are 240 MB: they fit on any device, and a batch is one gather from them. There is no
loader to feed and no worker whose random state could be lost. What an epoch looks like, its order and every crop and
flip, is a pure function of (seed, epoch): a run can stop and resume between any two steps, and any number of
processes or accumulation steps can share a batch and still see the same samples.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from sparselearning.errors import UsageError
from utils.sources import NUM_CLASSES, SIDE, Source, read_sources

Range = tuple[int, int]  # positions start..stop-1
PAD = 4  # zeros on every side, as torchvision's RandomCrop(32, padding=4) adds


@dataclass(frozen=True)
class Recipe:
    """Channel statistics of the training set, in units of 0..1, and how its images may be varied."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    flip: bool
    shift: int  # pixels, at most PAD


RECIPES = {
    "cifar10": Recipe((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616), flip=True, shift=4),
    "cifar100": Recipe((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762), flip=True, shift=4),
    # A mirrored digit is another sign. Enlarged fourfold, they move far with 4 pixels: 2 train to a lower error.
    "digits": Recipe((0.3054, 0.3054, 0.3054), (0.3237, 0.3237, 0.3237), flip=False, shift=2),
}


@dataclass(frozen=True)
class ImageSet:
    """A split on the device. With `flip` False and `shift` 0 its epochs are shuffled but not augmented."""

    images: Tensor  # uint8 (N, 40, 40, 3), zero-padded by PAD
    labels: Tensor  # int64 (N,)
    mean: Tensor  # float32 (3, 1, 1), in units of 0..1
    std: Tensor
    num_classes: int
    flip: bool
    shift: int

    def __len__(self) -> int:
        return len(self.labels)

    def epoch(self, seed: int, epoch: int) -> EpochOrder:
        """The order and the augmentation of one epoch, drawn on the CPU so that every device sees the same."""
        n, device = len(self), self.labels.device
        generator = _generator(f"epoch {epoch} of seed {seed}")
        order = torch.randperm(n, generator=generator)
        offsets = torch.randint(PAD - self.shift, PAD + self.shift + 1, (n, 2), generator=generator)
        flips = torch.randint(2, (n,), generator=generator).bool() & self.flip
        return EpochOrder(self, order.to(device), offsets.to(device), flips.to(device))

    def clean_batch(self, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """Samples start..stop-1 as stored, centred: float32 (B, 3, 32, 32) in channels_last memory, int64 (B,)."""
        centre = slice(PAD, PAD + SIDE)
        return self.normalise(self.images[start:stop, centre, centre]), self.labels[start:stop]

    def clean_batches(self, ranges: Iterable[Range]) -> Iterator[tuple[Tensor, Tensor]]:
        """The clean batch of each (start, stop)."""
        return (self.clean_batch(start, stop) for start, stop in ranges)

    def normalise(self, pixels: Tensor) -> Tensor:
        """Bytes (B, 32, 32, 3) to float32 (B, 3, 32, 32); NHWC seen as NCHW is channels_last, so nothing is moved."""
        x = pixels.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.channels_last)
        return x.sub_(255 * self.mean).div_(255 * self.std)


@dataclass(frozen=True)
class EpochOrder:
    """One epoch over `data`: at position i comes sample order[i], cropped at offsets[i] and mirrored if flips[i]."""

    data: ImageSet
    order: Tensor  # int64 (N,), a permutation
    offsets: Tensor  # int64 (N, 2), first row and first column of the crop in the padded image
    flips: Tensor  # bool (N,)

    def __len__(self) -> int:
        return len(self.order)

    def batch(self, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """Positions start..stop-1: float32 (B, 3, 32, 32) in channels_last memory, and labels, int64 (B,).

        Any cut of the epoch into ranges gives the same samples with the same crops.
        """
        here = slice(start, stop)
        sample = self.order[here]
        span = torch.arange(SIDE, device=sample.device)
        rows = self.offsets[here, :1] + span
        columns = self.offsets[here, 1:] + torch.where(self.flips[here, None], span.flip(0), span)
        pixels = self.data.images[sample[:, None, None], rows[:, :, None], columns[:, None, :]]
        return self.data.normalise(pixels), self.data.labels[sample]

    def batches(self, ranges: Iterable[Range]) -> Iterator[tuple[Tensor, Tensor]]:
        """The batch of each (start, stop)."""
        return (self.batch(start, stop) for start, stop in ranges)


@dataclass(frozen=True)
class Splits:
    """`valid` is held out of the training set for tuning; `test` is for the numbers that are reported."""

    train: ImageSet
    valid: ImageSet | None
    test: ImageSet
    num_classes: int


def load_cifar(
    name: str,
    data_dir: str | None,
    device: torch.device | str,
    *,
    limit_train: int | None = None,
    limit_test: int | None = None,
    valid_fraction: float = 0.0,
) -> Splits:
    """Loads cifar10, cifar100 or digits onto `device`, from the folder `data_dir` if one is given.

    The limits keep the first samples of a split, in stored order. `valid_fraction` (0 ≤ f < 1) of the training samples
    that are left become the validation set, which is never augmented. It is the same whatever the seed of a run, so
    that tickets of several runs can be judged by images that none of them was trained on.
    Raises UsageError for an unknown name, data that cannot be read, and limits or fractions that leave nothing.
    """
    if name not in RECIPES:
        raise UsageError(f"unknown --data {name}: choose from {', '.join(RECIPES)}")
    if not 0 <= valid_fraction < 1:
        raise UsageError(f"--valid-fraction {valid_fraction} is not in [0, 1): give the part to hold out, such as 0.1")
    sources = read_sources(name, data_dir)
    train = _image_set(name, sources["train"], limit_train, device)
    test = replace(_image_set(name, sources["test"], limit_test, device), flip=False, shift=0)
    valid = None
    if valid_fraction:
        held_out = round(valid_fraction * len(train))
        if not 0 < held_out < len(train):
            raise UsageError(f"--valid-fraction {valid_fraction} of {len(train)} images leaves a set empty: change it")
        shuffled = torch.randperm(len(train), generator=_generator("validation set"))
        valid = replace(_subset(train, shuffled[:held_out]), flip=False, shift=0)
        train = _subset(train, shuffled[held_out:])
    return Splits(train, valid, test, NUM_CLASSES[name])


def _image_set(name: str, source: Source, limit: int | None, device: torch.device | str) -> ImageSet:
    recipe = RECIPES[name]
    pixels, labels = source.decode(limit, NUM_CLASSES[name])
    mean, std = (torch.tensor(value, device=device).view(3, 1, 1) for value in (recipe.mean, recipe.std))
    images = F.pad(pixels.to(device), (0, 0, PAD, PAD, PAD, PAD))
    return ImageSet(images, labels.to(device), mean, std, NUM_CLASSES[name], recipe.flip, recipe.shift)


def _subset(images: ImageSet, index: Tensor) -> ImageSet:
    """The samples at `index`, in stored order."""
    index = index.sort().values.to(images.labels.device)
    return replace(images, images=images.images[index], labels=images.labels[index])


def _generator(key: str) -> torch.Generator:
    """A CPU generator of its own for every key. torch would drop all but 32 bits of a longer seed, so we hash to 32."""
    return torch.Generator().manual_seed(zlib.crc32(key.encode()))
