"""CIFAR-10, CIFAR-100 and other small images: read, decoded and held in the memory of the device."""

from dataclasses import replace
from typing import Unpack

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from sparselearning.errors import UsageError
from sparselearning.tickets import digest_of
from utils.data.decoding import resize
from utils.data.protocol import Splits
from utils.data.recipes import FLIPS, PAD, RECIPES, Preprocessing, Recipe
from utils.data.rows import Rows, count_classes, first_rows, hold_out
from utils.data.small_images import SmallImages, generator_of
from utils.data.sources import read_small
from utils.files.errors import DamagedImageError


def load_cifar(
    data: str,
    data_dir: str | None,
    device: torch.device | str,
    *,
    limit_train: int | None = None,
    limit_test: int | None = None,
    valid_fraction: float = 0.0,
    **changes: Unpack[Preprocessing],
) -> Splits:
    """Loads a data set that is known by name (RECIPES) or, from the folder `data_dir`, small images of any other name.

    The limits keep the first images of a split, in stored order; images in a folder per class are stored in turns, one
    of each class at a time. `valid_fraction` (0 ≤ f < 1) of the training images that are left become the validation
    set, which is never augmented; it is the same whatever the seed of a run.

    Args:
        changes: of the recipe. Without a recipe, mean and deviation are those of the training images that are left.

    Raises:
        UsageError: an unknown name, data that cannot be read, and limits or fractions that leave nothing.
    """
    recipe = RECIPES.get(data, Recipe()).changed(changes)
    train, test = read_small(data, data_dir, recipe)
    classes = count_classes(train, test, recipe.num_classes)
    pixels, labels = decode_all(train, first_rows(train, limit_train), recipe.image_size, recipe.native)
    test_pixels, test_labels = decode_all(test, first_rows(test, limit_test), recipe.image_size, recipe.native)
    recipe = measured(recipe, pixels)
    mean, std = (torch.tensor(values, device=device).view(3, 1, 1) for values in (recipe.mean, recipe.std))

    def images(pixels: Tensor, labels: Tensor, flip: bool = False, shift: int = 0) -> SmallImages:
        padded = F.pad(pixels.to(device), (0, 0, PAD, PAD, PAD, PAD))
        return SmallImages(padded, labels.to(device), mean, std, classes, flip, shift)

    content = {"train": pixels, "labels": labels, "test": test_pixels, "test labels": test_labels}
    fingerprint, valid = digest_of(content)[:16], None
    if valid_fraction:
        shuffled = torch.randperm(len(labels), generator=generator_of("validation set")).numpy()
        kept, held_out = hold_out(shuffled, valid_fraction)
        valid = images(pixels[held_out], labels[held_out])
        pixels, labels = pixels[kept], labels[kept]
    splits = images(pixels, labels, FLIPS[recipe.flip], recipe.shift), valid, images(test_pixels, test_labels)
    return Splits(*splits, classes, recipe.preprocessing(), fingerprint, test.classes or train.classes)


def decode_all(rows: Rows, index: np.ndarray, side: int, native: int | None) -> tuple[Tensor, Tensor]:
    """The rows of an index: pixels, uint8 (N, side, side, 3), and labels, int64 (N,), on the CPU.

    Args:
        native: pixels of a side that the images must have; None: they are resized, whatever they have.

    Raises:
        UsageError: damaged images, and those of another size than `native`.
    """
    pixels = torch.empty(len(index), side, side, 3, dtype=torch.uint8)
    # One thread: PIL holds the interpreter's lock for most of so small an image, and a pool only adds overhead.
    # disable=None: a bar on a terminal, silence elsewhere.
    for i, row in enumerate(tqdm(index.tolist(), f"decoding {rows.where}", disable=None, leave=False)):
        try:
            image = rows.pixels(row)
        except DamagedImageError as error:
            raise UsageError(str(error)) from error  # which every process meets
        height, width = image.shape[:2]
        if native is not None and (height, width) != (native, native):
            size = f"{width}×{height} pixels, not {native}×{native}"
            raise UsageError(f"{rows.name(row)} is {size}: resize it or check --data")
        pixels[i] = image if height == width == side else resize(image, (0, 0, height, width), side, side)
    return pixels, rows.labels[index]


def measured(recipe: Recipe, pixels: Tensor) -> Recipe:
    """With mean and deviation of bytes (N, H, W, 3), to four digits, where it has none.

    The deviation is a step of a byte at least: in a channel that never changes, a test image may differ by one.
    """
    if recipe.mean is not None and recipe.std is not None:
        return recipe
    sums = torch.zeros(2, 3, dtype=torch.float64)
    for part in pixels.split(1000):
        values = part.flatten(0, 2).double() / 255
        sums += torch.stack((values.sum(0), values.square().sum(0)))
    mean, square = sums / pixels[..., 0].numel()
    std = (square - mean**2).clamp(min=0).sqrt().clamp(min=1 / 255)
    own = [tuple(round(value, 4) for value in values.tolist()) for values in (mean, std)]
    return replace(recipe, mean=recipe.mean or own[0], std=recipe.std or own[1])
