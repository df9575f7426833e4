"""CIFAR-sized data, decoded once into bytes on the device, and cropped and flipped there in batches.

Fifty thousand padded images are 240 MB: they fit on any device, and a batch is one gather from them. There is no
loader to feed and no worker whose random state could be lost. What an epoch looks like, its order and every crop and
flip, is a pure function of (seed, epoch): a run can stop and resume between any two steps, and any number of
processes or accumulation steps can share a batch and still see the same samples.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from sparselearning.errors import UsageError
from utils.data.protocol import Batch, Range, Splits
from utils.data.recipes import FLIPS, LOOK, PAD, RECIPES, Recipe
from utils.data.small_sources import decode_all, read_sources
from utils.data.sources import count_classes
from utils.files.whole import digest_of


@dataclass(frozen=True)
class ImageSet:
    """A split on the device. With `flip` False and `shift` 0 its epochs are shuffled but not augmented."""

    images: Tensor  # uint8 (N, side + 8, side + 8, 3), zero-padded by PAD
    labels: Tensor  # int64 (N,)
    mean: Tensor  # float32 (3, 1, 1), in units of 0..1
    std: Tensor
    num_classes: int
    flip: bool
    shift: int

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def side(self) -> int:
        """Pixels of an image, without its rim."""
        return self.images.shape[1] - 2 * PAD

    def epoch(self, seed: int, epoch: int) -> EpochOrder:
        """The order and the augmentation of one epoch, drawn on the CPU so that every device sees the same."""
        n, device = len(self), self.labels.device
        generator = _generator(f"epoch {epoch} of seed {seed}")
        order = torch.randperm(n, generator=generator)
        offsets = torch.randint(PAD - self.shift, PAD + self.shift + 1, (n, 2), generator=generator)
        flips = torch.randint(2, (n,), generator=generator).bool() & self.flip
        return EpochOrder(self, order.to(device), offsets.to(device), flips.to(device))

    def clean_batch(self, start: int, stop: int) -> Batch:
        """Samples start..stop-1 as stored, centred: float32 (B, 3, side, side) in channels_last memory, int64 (B,)."""
        centre = slice(PAD, PAD + self.side)
        return self.normalise(self.images[start:stop, centre, centre]), self.labels[start:stop]

    def clean_batches(self, ranges: Iterable[Range]) -> Iterator[Batch]:
        """The clean batch of each (start, stop)."""
        return (self.clean_batch(start, stop) for start, stop in ranges)

    def normalise(self, pixels: Tensor) -> Tensor:
        """Bytes (B, H, W, 3) to float32 (B, 3, H, W); NHWC seen as NCHW is channels_last, so nothing is moved."""
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

    def batch(self, start: int, stop: int) -> Batch:
        """Positions start..stop-1: float32 (B, 3, side, side) in channels_last memory, and labels, int64 (B,).

        Any cut of the epoch into ranges gives the same samples with the same crops.
        """
        here = slice(start, stop)
        sample = self.order[here]
        span = torch.arange(self.data.side, device=sample.device)
        rows = self.offsets[here, :1] + span
        columns = self.offsets[here, 1:] + torch.where(self.flips[here, None], span.flip(0), span)
        pixels = self.data.images[sample[:, None, None], rows[:, :, None], columns[:, None, :]]
        return self.data.normalise(pixels), self.data.labels[sample]

    def batches(self, ranges: Iterable[Range]) -> Iterator[Batch]:
        """The batch of each (start, stop)."""
        return (self.batch(start, stop) for start, stop in ranges)


def load_cifar(
    name: str,
    data_dir: str | None,
    device: torch.device | str,
    *,
    limit_train: int | None = None,
    limit_test: int | None = None,
    valid_fraction: float = 0.0,
    look: Mapping[str, Any] | None = None,
) -> Splits:
    """Loads cifar10, cifar100, digits or, from the folder `data_dir`, small images of any other name onto `device`.

    The limits keep the first samples of a split, in stored order; images in a folder per class are stored in turns, one
    of each class at a time. `valid_fraction` (0 ≤ f < 1) of the training samples that are left become the validation
    set, which is never augmented. It is the same whatever the seed of a run, so that tickets of several runs can be
    judged by images that none of them was trained on.

    Args:
        look: what is to be other than in the recipe (LOOK), None what is not. Without a recipe, mean and deviation are
            those of the training samples that are left.

    Raises:
        UsageError: an unknown name, data that cannot be read, and limits or fractions that leave nothing.
    """
    if name not in RECIPES and data_dir is None:
        raise UsageError(f"unknown --data {name}: choose from {', '.join(RECIPES)}, or give the folder with --data-dir")
    if not 0 <= valid_fraction < 1:
        raise UsageError(f"--valid-fraction {valid_fraction} is not in [0, 1): give the part to hold out, such as 0.1")
    given = {key: value for key, value in (look or {}).items() if value is not None}
    recipe = replace(RECIPES.get(name, Recipe()), **given)
    sources = read_sources(name, data_dir, recipe.label_column)
    classes = count_classes(*sources, recipe.num_classes)
    pixels, labels = decode_all(sources[0], limit_train, recipe.image_size, recipe.native)
    test_pixels, test_labels = decode_all(sources[1], limit_test, recipe.image_size, recipe.native)
    recipe = recipe.measured(pixels)
    mean, std = (torch.tensor(values, device=device).view(3, 1, 1) for values in (recipe.mean, recipe.std))

    def image_set(pixels: Tensor, labels: Tensor, flip: bool = False, shift: int = 0) -> ImageSet:
        images = F.pad(pixels.to(device), (0, 0, PAD, PAD, PAD, PAD))
        return ImageSet(images, labels.to(device), mean, std, classes, flip, shift)

    train, valid = image_set(pixels, labels, FLIPS[recipe.flip], recipe.shift), None
    if valid_fraction:
        held_out = round(valid_fraction * len(train))
        if not 0 < held_out < len(train):
            raise UsageError(f"--valid-fraction {valid_fraction} of {len(train)} images leaves a set empty: change it")
        shuffled = torch.randperm(len(train), generator=_generator("validation set"))
        valid = replace(_subset(train, shuffled[:held_out]), flip=False, shift=0)
        train = _subset(train, shuffled[held_out:])
    about = {key: getattr(recipe, key) for key in LOOK}
    content = {"train": pixels, "labels": labels, "test": test_pixels, "test labels": test_labels}
    return Splits(train, valid, image_set(test_pixels, test_labels), classes, about, digest_of(content)[:16])


def _subset(images: ImageSet, index: Tensor) -> ImageSet:
    """The samples at `index`, in stored order."""
    index = index.sort().values.to(images.labels.device)
    return replace(images, images=images.images[index], labels=images.labels[index])


def _generator(key: str) -> torch.Generator:
    """A CPU generator of its own for every key. torch would drop all but 32 bits of a longer seed, so we hash to 32."""
    return torch.Generator().manual_seed(zlib.crc32(key.encode()))
