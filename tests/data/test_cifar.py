"""Small images of any size, and those of known data sets: limits, validation, size, mean and deviation."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.data.readers import refused, small
from tests.data.writers import CLOTHES, gray_image, write_images
from utils.data.protocol import Splits
from utils.data.recipes import RECIPES

REAL = Path(__file__).parents[3] / "shared" / "data" / "cifar10"
TRAIN = len(CLOTHES.train)


@pytest.fixture(scope="module")
def digits():
    return small(None, "digits")


@pytest.fixture(scope="module")
def clothes(tmp_path_factory) -> Path:
    return write_images(tmp_path_factory.mktemp("clothes"), CLOTHES)


def own(folder: Path, **options: Any) -> Splits:
    return small(folder, "clothes", **options)


def stack(*numbers: int) -> np.ndarray:
    return np.stack([gray_image(i) for i in numbers])


# ---- which images --------------------------------------------------------------------------------------------------


def test_wrong_arguments_are_named(tmp_path):
    write_images(tmp_path)
    refused(f"unknown --data mnist: choose from {', '.join(RECIPES)}, or give the folder", small, None, "mnist")
    refused("leave out --data-dir", small, tmp_path, "digits")
    refused("has 10 classes, not 100: check --data ", small, tmp_path, "cifar100")
    refused("first 21 of the train split .*: give 1 to 20", small, tmp_path, limit_train=21)
    refused("first 0 of the test split .*: give 1 to 10", small, tmp_path, limit_test=0)
    for fraction in (-0.1, 1.0, float("nan")):
        refused(r"is not in \[0, 1\)", small, tmp_path, valid_fraction=fraction)
    for fraction in (0.001, 0.999):
        refused("of 20 images leaves a set empty", small, tmp_path, valid_fraction=fraction)


def test_validation_is_held_out_after_the_limit_and_clean(digits):
    splits = small(None, "digits", limit_train=100, limit_test=50, valid_fraction=0.2)
    assert (len(splits.train), len(splits.valid), len(splits.test)) == (80, 20, 50)

    def rows(images: torch.Tensor) -> set[bytes]:
        return {image.numpy().tobytes() for image in images}

    assert rows(splits.train.images) | rows(splits.valid.images) == rows(digits.train.images[:100])
    assert not rows(splits.train.images) & rows(splits.valid.images)
    x, _ = splits.valid.epoch(0, 0).batch(0, 20)
    clean, _ = splits.valid.clean_batch(0, 20)
    assert torch.equal(x, clean[splits.valid.epoch(0, 0).order])
    torch.manual_seed(1)
    again = small(None, "digits", limit_train=100, valid_fraction=0.2)
    assert torch.equal(again.valid.images, splits.valid.images)  # the same for every run, whatever its seed
    assert rows(splits.valid.images) != rows(digits.train.images[:20])


def test_digits_are_one_fixed_stratified_split(digits):
    again = small(None, "digits")
    assert torch.equal(again.test.images, digits.test.images) and len(digits.test) == 360
    assert len(digits.train) == 1437
    assert digits.test.labels.bincount().min() >= 34
    pixels = digits.train.images[:, 4:36, 4:36].double() / 255
    assert torch.equal(pixels[..., 0], pixels[..., 2])
    assert pixels.mean().item() == pytest.approx(RECIPES["digits"].mean[0], abs=1e-4)
    assert pixels.std().item() == pytest.approx(RECIPES["digits"].std[0], abs=1e-4)


@pytest.mark.skipif(not REAL.is_dir(), reason="no local copy of CIFAR-10")
def test_the_real_cifar10():
    splits = small(REAL, limit_train=2000, limit_test=500)
    assert (len(splits.train), len(splits.test)) == (2000, 500)
    x, y = splits.train.clean_batch(0, 2000)
    assert x.mean((0, 2, 3)).abs().max() < 0.05 and (x.std((0, 2, 3)) - 1).abs().max() < 0.05
    assert y.bincount(minlength=10).min() > 150


# ---- their size ----------------------------------------------------------------------------------------------------


def test_gray_becomes_three_channels_of_the_size_that_is_asked_for(clothes):
    data = own(clothes, image_size=28)
    assert (data.num_classes, len(data.train), len(data.test), data.train.side) == (3, TRAIN, 30, 28)
    for channel in range(3):
        assert np.array_equal(data.train.images[:, 4:32, 4:32, channel], stack(*range(TRAIN)))
    assert data.train.labels.tolist() == [i % 3 for i in range(TRAIN)]
    assert data.train.epoch(0, 0).batch(0, 5)[0].shape == data.test.clean_batch(0, 5)[0].shape == (5, 3, 28, 28)


@pytest.mark.parametrize("side", [16, 32, 64])
def test_images_of_any_size_are_resized(side, clothes, tmp_path):
    for i, (split, shape) in enumerate((("train", (28, 28)), ("train", (50, 20)), ("test", (7, 9)))):
        (tmp_path / split / "any").mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((*shape, 3), 50 + i, np.uint8)).save(tmp_path / split / "any" / f"{i}.png")
    data = own(tmp_path, image_size=side)
    for i, images in enumerate((data.train.images[:1], data.train.images[1:], data.test.images)):
        assert images.shape == (1, side + 8, side + 8, 3)
        assert (images[0, 4:-4, 4:-4] == 50 + i).all() and images.sum() == side * side * 3 * (50 + i)
    expected = Image.fromarray(gray_image(0)).resize((side, side), Image.Resampling.BILINEAR)
    found = own(clothes, image_size=side).train.images[0, 4:-4, 4:-4, 0].numpy().astype(int)
    assert np.abs(found - np.asarray(expected, int)).max() <= 2  # torch and Pillow round in another order


def test_known_data_may_have_another_size_too(tmp_path):
    digits = small(None, "digits", limit_train=5, limit_test=5)
    enlarged = small(None, "digits", limit_train=5, limit_test=5, image_size=64)
    assert enlarged.train.side == 64 and torch.equal(enlarged.train.mean, digits.train.mean)
    write_images(tmp_path)
    Image.new("RGB", (28, 28)).save(tmp_path / "train/class0/000.png")
    refused("28×28 pixels, not 32×32", small, tmp_path, image_size=28)  # it cannot be CIFAR-10


# ---- mean and deviation --------------------------------------------------------------------------------------------


def test_mean_and_deviation_are_those_of_the_training_images(clothes):
    for limit in (None, 10):
        pixels = stack(*range(limit or TRAIN)) / 255
        data = own(clothes, limit_train=limit, image_size=28)
        assert data.about["mean"] == pytest.approx([pixels.mean()] * 3, abs=5e-5)
        assert data.about["std"] == pytest.approx([pixels.std()] * 3, abs=5e-5)
        x = data.train.clean_batch(0, len(data.train))[0]
        assert x.mean((0, 2, 3)).abs().max() < 1e-3 and (x.std((0, 2, 3)) - 1).abs().max() < 1e-2
    given = own(clothes, mean=[0.1, 0.2, 0.3])
    assert given.train.mean.flatten().tolist() == pytest.approx([0.1, 0.2, 0.3])
    assert given.about["std"] == own(clothes).about["std"]


def test_a_channel_in_which_nothing_differs_stays_finite(tmp_path):
    for split in ("train", "test"):
        (tmp_path / split / "any").mkdir(parents=True)
        Image.new("RGB", (8, 8), (0, 9, 255)).save(tmp_path / split / "any" / "0.png")
    data = own(tmp_path)
    assert data.train.clean_batch(0, 1)[0].abs().max() < 0.1 and min(data.about["std"]) > 0


# ---- mirroring -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "flip", "mirrored"), [("clothes", None, True), ("clothes", "none", False),
                                                        ("digits", None, False), ("digits", "horizontal", True)])  # fmt: skip  # noqa: E501
def test_images_are_mirrored_as_asked(name, flip, mirrored, clothes):
    train = small(None if name == "digits" else clothes, name, flip=flip).train
    assert any(bool(train.epoch(0, epoch).flips.any()) for epoch in range(3)) == mirrored
