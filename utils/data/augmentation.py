"""How large images are cut for training and for tests: torchvision's random resized crop and its center crop, in bytes.

Random numbers are a function of (seed, epoch, position), so that no worker has a random state that could be lost.
"""

import functools
import math

import numpy as np
from torch import Tensor

from utils.data.decoding import Box, resize

AREA, RATIO = (0.08, 1.0), (3 / 4, 4 / 3)  # of a training crop: part of the image, width over height
MARGIN = 256 / 224  # the shorter side of a test image before its center is cut out

Key = tuple[int, int]  # of an epoch: seed, epoch


def generator(seed: int, epoch: int, position: int = -1) -> np.random.Generator:
    """Random numbers of one position, or of the order of an epoch (-1), from a generator that counts in any order."""
    key = np.array([seed % 2**64, epoch], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=[0, 0, position + 1, 0]))


@functools.lru_cache(maxsize=1)
def permutation(count: int, seed: int, epoch: int) -> np.ndarray:
    """The order of an epoch, int64 (count,)."""
    return generator(seed, epoch).permutation(count)


def random_box(height: int, width: int, rng: np.random.Generator) -> Box:
    """Where RandomResizedCrop cuts: a random part of the area at a random aspect ratio, or the center."""
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


def center(pixels: Tensor, side: int) -> Tensor:
    """A test image: the shorter side resized to 256/224 of `side`, and the center cut out; bytes (side, side, 3)."""
    height, width = pixels.shape[:2]
    shorter, large = min(height, width), int(MARGIN * side)
    height, width = int(large * height / shorter), int(large * width / shorter)
    whole = resize(pixels, (0, 0, pixels.shape[0], pixels.shape[1]), height, width)
    top, left = round((height - side) / 2), round((width - side) / 2)
    return whole[top : top + side, left : left + side]
