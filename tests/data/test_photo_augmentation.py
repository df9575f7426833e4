"""Photographs as the network meets them: torchvision's own preprocessing of tests, another crop in every epoch."""

import itertools

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.models import ResNet50_Weights

from tests.data.test_photos import CPU, encoded
from utils.data.large_images import LargeImages, Samples
from utils.data.rows import EncodedRows


class Same(EncodedRows):
    """One photograph again and again, of colours and brightness that change across it."""

    def __init__(self, height: int, width: int, labels: torch.Tensor | None = None) -> None:
        super().__init__("memory", torch.zeros(8, dtype=torch.int64) if labels is None else labels, ["only"])
        rows, columns = np.mgrid[0:height, 0:width]
        noise = np.random.default_rng(0).integers(0, 60, (height, width))
        colours = (180 * rows / height + noise, 180 * columns / width + noise, 120 + noise)
        self.image = Image.fromarray(np.stack(colours, axis=2).astype(np.uint8))

    def read(self, row: int) -> bytes:
        return encoded(self.image, "png")

    def listing(self) -> bytes:
        return b""


def photo_set(height: int, width: int, side: int) -> LargeImages:
    return LargeImages(Samples(Same(height, width), np.arange(8), side), 1, CPU, workers=0)


@pytest.mark.parametrize(("height", "width"), [(300, 400), (500, 375), (256, 256)])
def test_a_test_image_is_what_torchvisions_weights_were_evaluated_on(height: int, width: int) -> None:
    """Resize to 256, the centre of 224, and ImageNet's mean and deviation by channel."""
    preprocess = ResNet50_Weights.IMAGENET1K_V1.transforms()
    expected = preprocess(Same(height, width).image)
    (found,), _ = photo_set(height, width, 224).clean_batch(0, 1)
    torch.testing.assert_close(found, expected, rtol=0, atol=2.01 / 255 / 0.224)  # bytes are rounded on the way
    assert (found - expected).mean((1, 2)).abs().max() < 0.5 / 255 / 0.224


def test_every_position_of_every_epoch_and_seed_has_a_crop_of_its_own() -> None:
    photos = photo_set(64, 80, 16)
    crops = [
        (key, position, tuple(crop.flatten().tolist()))
        for key in itertools.product(range(3), range(3))
        for position, crop in enumerate(photos.epoch(*key).batch(0, 8)[0])
    ]
    assert len({content for *_, content in crops}) == len(crops) == 9 * 8
    again = photos.epoch(2, 1).batch(3, 5)[0]
    assert [tuple(crop.flatten().tolist()) for crop in again] == [
        content for key, position, content in crops if key == (2, 1) and position in (3, 4)
    ]


LABELS = torch.arange(8).flip(0)


class Shades(Same):
    """Eight photographs of one grey each, which their label tells."""

    def read(self, row: int) -> bytes:
        return encoded(Image.new("RGB", (30, 20), (30 * int(self.labels[row]),) * 3), "png")


def test_labels_come_along_with_their_images() -> None:
    """Of shuffled and of stored ones, where the split is a part of all photographs too."""
    for rows in (np.arange(8), np.array([1, 2, 5, 7])):
        photos = LargeImages(Samples(Shades(20, 30, LABELS), rows, 8), 8, CPU, workers=0)
        kept = sorted(LABELS[rows].tolist())
        for images, labels in (photos.clean_batch(0, len(rows)), *(photos.epoch(0, e).batch(0, 8) for e in range(3))):
            shades = images[:, 0, 0, 0] * 0.229 + 0.485
            assert (255 * shades / 30).round().long().tolist() == labels.tolist() and sorted(labels.tolist()) == kept
    assert len({tuple(photos.epoch(0, epoch).batch(0, 4)[1].tolist()) for epoch in range(6)}) > 1
