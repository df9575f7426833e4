"""Large images are cut for training and tests as torchvision cuts them, another crop at every position."""

import itertools

import numpy as np
import pytest
import torch
import torchvision.transforms.v2 as T
import torchvision.transforms.v2.functional as TF
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.stats import ks_2samp
from torchvision.models import ResNet50_Weights

from tests.data.readers import CPU
from tests.data.writers import encoded
from utils.data.augmentation import augment, center, generator, random_box
from utils.data.decoding import resize
from utils.data.large_images import LargeImages, Samples
from utils.data.rows import EncodedRows

TWO_ROUNDINGS = 1.01  # half a byte each, and the rest for weights of 16 bits


@pytest.mark.parametrize("shape", [(40, 60), (300, 200), (17, 17), (1, 1), (1, 9), (500, 375)])
def test_crops_are_those_of_torchvision(shape: tuple[int, int]) -> None:
    """In floats, which no version of it rounds: bytes are rounded twice, after the columns and after the rows."""
    pixels = torch.randint(256, (*shape, 3), dtype=torch.uint8)
    image = pixels.permute(2, 0, 1).float()
    for seed in range(8):
        top, left, height, width = box = random_box(*shape, generator(0, 0, seed))
        expected = TF.resized_crop(image, top, left, height, width, [32, 32], antialias=True)
        own = resize(pixels, box, 32, 32).permute(2, 0, 1)
        torch.testing.assert_close(own.float(), expected, rtol=0, atol=TWO_ROUNDINGS)
        cut = augment(pixels, 32, generator(0, 0, seed)).permute(2, 0, 1)
        assert torch.equal(cut, own) or torch.equal(cut, own.flip(-1))
    for side in (224, 64, 37):
        expected = T.Compose([T.Resize(int(side * 256 / 224), antialias=True), T.CenterCrop(side)])(image)
        own = center(pixels, side).permute(2, 0, 1).float()
        torch.testing.assert_close(own, expected, rtol=0, atol=TWO_ROUNDINGS)


def test_centers_are_those_of_pillow_but_for_rounding() -> None:
    image = Image.fromarray(np.linspace(0, 255, 90 * 120 * 3).reshape(90, 120, 3).astype(np.uint8))
    expected = np.asarray(T.Compose([T.Resize(73), T.CenterCrop(64)])(image)).astype(int)
    own = center(torch.from_numpy(np.array(image)), 64).numpy().astype(int)
    assert np.abs(own - expected).max() <= 2


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 700), st.integers(1, 700), st.integers(0, 99))
def test_a_crop_lies_in_its_image(height: int, width: int, seed: int) -> None:
    top, left, h, w = random_box(height, width, generator(seed, 0, 0))
    assert 0 <= top <= top + h <= height and 0 <= left <= left + w <= width and h > 0 and w > 0


def test_boxes_are_spread_as_torchvision_spreads_them() -> None:
    """Areas, ratios and places, by a two-sample Kolmogorov-Smirnov test of each."""
    own = np.array([random_box(375, 500, generator(0, 0, i)) for i in range(4000)])
    torch.manual_seed(0)
    image = torch.empty(3, 375, 500)
    drawn = [T.RandomResizedCrop(8).make_params([image]) for _ in range(4000)]
    theirs = np.array([[params[side] for side in ("top", "left", "height", "width")] for params in drawn])
    measures = [boxes[:, 2] * boxes[:, 3] for boxes in (own, theirs)], [b[:, 3] / b[:, 2] for b in (own, theirs)]
    for ours, torchvisions in (*measures, *zip(own.T, theirs.T, strict=True)):
        assert ks_2samp(ours, torchvisions).pvalue > 1e-3


def test_half_of_the_images_are_flipped() -> None:
    ramp = torch.arange(64, dtype=torch.uint8).mul(4).view(1, 64, 1).expand(64, 64, 3)
    flips = [bool(cut[0, 0, 0] > cut[0, -1, 0]) for cut in (augment(ramp, 8, generator(0, 0, i)) for i in range(400))]
    assert 160 < sum(flips) < 240


# ---- as the network sees them --------------------------------------------------------------------------------------


class Same(EncodedRows):
    """One image again and again, of colors and brightness that change across it."""

    def __init__(self, height: int, width: int) -> None:
        super().__init__("memory", torch.zeros(8, dtype=torch.int64), ["only"])
        rows, columns = np.mgrid[0:height, 0:width]
        noise = np.random.default_rng(0).integers(0, 60, (height, width))
        colors = (180 * rows / height + noise, 180 * columns / width + noise, 120 + noise)
        self.image = Image.fromarray(np.stack(colors, axis=2).astype(np.uint8))

    def read(self, row: int) -> bytes:
        return encoded(self.image)

    def listing(self) -> bytes:
        return b""


@pytest.mark.parametrize(("height", "width"), [(300, 400), (500, 375), (256, 256)])
def test_a_test_image_is_what_torchvisions_weights_were_evaluated_on(height: int, width: int) -> None:
    """Resize to 256, the center of 224, and ImageNet's mean and deviation by channel."""
    rows = Same(height, width)
    expected = ResNet50_Weights.IMAGENET1K_V1.transforms()(rows.image)
    (found,), _ = LargeImages(Samples(rows, np.arange(8), 224), 1, CPU, workers=0).clean_batch(0, 1)
    torch.testing.assert_close(found, expected, rtol=0, atol=2.01 / 255 / 0.224)  # bytes are rounded on the way
    assert (found - expected).mean((1, 2)).abs().max() < 0.5 / 255 / 0.224


def test_every_position_of_every_epoch_and_seed_has_a_crop_of_its_own() -> None:
    images = LargeImages(Samples(Same(64, 80), np.arange(8), 16), 1, CPU, workers=0)
    crops = [
        (key, position, tuple(crop.flatten().tolist()))
        for key in itertools.product(range(3), range(3))
        for position, crop in enumerate(images.epoch(*key).batch(0, 8)[0])
    ]
    assert len({content for *_, content in crops}) == len(crops) == 9 * 8
    again = images.epoch(2, 1).batch(3, 5)[0]
    assert [tuple(crop.flatten().tolist()) for crop in again] == [
        content for key, position, content in crops if key == (2, 1) and position in (3, 4)
    ]
