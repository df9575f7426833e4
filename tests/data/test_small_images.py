"""An epoch over small images depends on nothing but seed and epoch; its crops and flips are those of torchvision."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torchvision.transforms.functional as TF
from scipy.stats import chisquare, contingency
from torch import Tensor

from tests.data.readers import small
from tests.data.writers import pixels_and_labels, write_saved
from utils.data.recipes import PAD, RECIPES
from utils.data.small_images import SmallImages

COPIES = 6480


@pytest.fixture
def train(tmp_path) -> SmallImages:
    write_saved(tmp_path)
    return small(tmp_path).train


@pytest.fixture(scope="module")
def digits():
    return small(None, "digits")


def test_crop_and_flip_are_torchvisions(train):
    pixels, labels = pixels_and_labels("train")
    plan = train.epoch(seed=3, epoch=1)
    x, y = plan.batch(0, 20)
    assert x.is_contiguous(memory_format=torch.channels_last) and x.dtype == torch.float32
    for i, sample in enumerate(plan.order.tolist()):
        expected = TF.crop(TF.pad(TF.to_tensor(pixels[sample]), [4]), *plan.offsets[i].tolist(), 32, 32)
        expected = TF.hflip(expected) if plan.flips[i] else expected
        expected = TF.normalize(expected, RECIPES["cifar10"].mean, RECIPES["cifar10"].std)
        torch.testing.assert_close(x[i], expected)
        assert y[i] == labels[sample]
    assert 0 < plan.flips.sum() < 20


def test_clean_batches_are_the_stored_images(train):
    pixels, labels = pixels_and_labels("train")
    x, y = train.clean_batch(15, 40)  # the last batch is what is left
    assert x.shape == (5, 3, 32, 32) and x.is_contiguous(memory_format=torch.channels_last)
    expected = TF.normalize(TF.to_tensor(pixels[17]), RECIPES["cifar10"].mean, RECIPES["cifar10"].std)
    torch.testing.assert_close(x[2], expected)
    assert y.tolist() == labels[15:]
    first, _ = train.clean_batch(0, 15)
    assert np.array_equal(train.images[:, 4:36, 4:36], pixels), "normalizing must not write into the stored bytes"
    assert len(first) == 15


def same(a, b) -> bool:
    return all(torch.equal(getattr(a, part), getattr(b, part)) for part in ("order", "offsets", "flips"))


def test_an_epoch_is_a_function_of_seed_and_epoch(digits):
    images = digits.train
    torch.manual_seed(1)
    plan = images.epoch(0, 5)
    torch.manual_seed(2)
    assert same(plan, images.epoch(0, 5))
    for other in ((0, 6), (1, 5), (5, 0), (2**32, 5), (-1, 5)):
        assert not same(plan, images.epoch(*other))
    assert plan.order.sort().values.tolist() == list(range(len(images))) and len(plan) == len(images)


def test_any_cut_of_a_batch_gives_the_same_samples(digits):
    plan = digits.train.epoch(0, 0)
    whole = plan.batch(100, 164)
    for middle in (100, 101, 132, 164):
        parts = [plan.batch(100, middle), plan.batch(middle, 164)]
        assert torch.equal(torch.cat([x for x, _ in parts]), whole[0])
        assert torch.equal(torch.cat([y for _, y in parts]), whole[1])


def test_every_offset_occurs_and_half_are_flipped(digits):
    plan = replace(digits.train, shift=4, flip=True).epoch(0, 0)
    assert plan.offsets.unique().tolist() == list(range(9))
    assert 0.45 < plan.flips.float().mean() < 0.55


def test_digits_shift_little_and_never_flip(digits):
    for epoch in range(5):
        plan = digits.train.epoch(0, epoch)
        assert not plan.flips.any()
        assert plan.offsets.unique().tolist() == [2, 3, 4, 5, 6]


# ---- crops and flips -----------------------------------------------------------------------------------------------


def copies(flip: bool, shift: int) -> SmallImages:
    """One image in which no two pixels are alike, many times; its bytes come out of a batch as they are."""
    row, column = torch.meshgrid(torch.arange(32), torch.arange(32), indexing="ij")
    image = torch.stack((row + 1, column + 1, 7 * row + column % 7), dim=2).byte()  # 0 is the padding's alone
    images = torch.nn.functional.pad(image, (0, 0, PAD, PAD, PAD, PAD)).expand(COPIES, -1, -1, -1)
    mean, std = torch.zeros(3, 1, 1), torch.full((3, 1, 1), 1 / 255)
    return SmallImages(images, torch.arange(COPIES) % 10, mean, std, 10, flip, shift)


def placed(batch: Tensor) -> Tensor:
    """(first row, first column, mirrored) of each crop of the padded image, read off two of its pixels."""
    upper, next_to_it = batch[:, :2, 16, 16].long(), batch[:, :2, 16, 17].long()
    mirrored = (next_to_it[:, 1] < upper[:, 1]).long()
    row = upper[:, 0] - 1 + PAD - 16
    column = upper[:, 1] - 1 + PAD - (16 - mirrored)  # column 16 of a mirrored crop was its column 15
    return torch.stack((row, column, mirrored), dim=1)


@pytest.mark.parametrize(("flip", "shift"), [(True, 4), (False, 2), (True, 0)])
def test_every_crop_and_flip_is_as_likely_and_independent_of_the_others(flip: bool, shift: int) -> None:
    plan = copies(flip, shift).epoch(seed=1, epoch=2)
    batch, _ = plan.batch(0, COPIES)
    places = placed(batch)
    sides = 2 * shift + 1
    possible = sides * sides * (1 + flip)
    keys = ((places[:, 0] - PAD + shift) * sides + places[:, 1] - PAD + shift) * (1 + flip) + places[:, 2]
    assert keys.min() >= 0 and keys.max() < possible
    assert possible == 1 or chisquare(keys.bincount(minlength=possible)).pvalue > 1e-3
    for key in keys.unique().tolist():  # and nothing but that crop and flip, as torchvision makes them
        top, left, mirrored = places[int((keys == key).nonzero()[0])].tolist()
        same = batch[keys == key]
        whole = plan.data.images[0].permute(2, 0, 1)
        expected = TF.crop(whole, top, left, 32, 32)
        assert (same == (TF.hflip(expected) if mirrored else expected)).all()


def test_images_that_follow_each_other_and_epochs_share_no_crop_or_flip() -> None:
    images = copies(True, 4)
    first, _ = images.epoch(0, 0).batch(0, COPIES)
    places = placed(first)
    others = [places.roll(1, 0)] + [placed(images.epoch(*key).batch(0, COPIES)[0]) for key in ((0, 1), (1, 0))]
    for other in others:
        for part, kinds in enumerate((9, 9, 2)):
            together = kinds * (places[:, part] - places[:, part].min()) + other[:, part] - other[:, part].min()
            table = together.bincount(minlength=kinds**2).view(kinds, kinds)
            assert contingency.chi2_contingency(table).pvalue > 1e-3


def test_every_seed_and_epoch_has_an_order_of_its_own() -> None:
    """Also where seed and epoch have the same digits, together or the other way round."""
    keys = [(seed, epoch) for seed in (0, 1, 2, 11, 12, 21, 111, 112) for epoch in (0, 1, 2, 11, 12, 21, 111, 112)]
    images = replace(copies(True, 4), labels=torch.arange(100))
    plans = [images.epoch(*key) for key in keys]
    for part in ("order", "offsets", "flips"):
        assert len({tuple(getattr(plan, part).flatten().tolist()) for plan in plans}) == len(keys)


def test_only_training_images_vary() -> None:
    images = replace(copies(True, 4), flip=False, shift=0)
    batch, _ = images.epoch(0, 0).batch(0, 50)
    assert (batch == images.clean_batch(0, 1)[0]).all()
