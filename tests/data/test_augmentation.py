"""Training crops and flips as they come out of a batch: every variant that torchvision would give, each as often."""

from dataclasses import replace

import datasets
import pytest
import torch
import torchvision.transforms.functional as TF
from scipy.stats import chisquare, contingency
from torch import Tensor

from utils.data.cifar import load_cifar
from utils.data.recipes import PAD, RECIPES
from utils.data.small_images import SmallImages

COPIES = 6480
# from the data themselves, by other projects (kuangliu/pytorch-cifar, weiaicunzai/pytorch-cifar100)
STATISTICS = {
    "cifar10": ((0.49139968, 0.48215841, 0.44653091), (0.24703223, 0.24348513, 0.26158784)),
    "cifar100": ((0.50707516, 0.48654887, 0.44091784), (0.26733429, 0.25643846, 0.27615047)),
}


def copies(flip: bool, shift: int) -> SmallImages:
    """One image in which no two pixels are alike, many times; its bytes come out of a batch as they are."""
    row, column = torch.meshgrid(torch.arange(32), torch.arange(32), indexing="ij")
    image = torch.stack((row + 1, column + 1, 7 * row + column % 7), dim=2).byte()  # 0 is the rim's alone
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


@pytest.mark.parametrize("name", STATISTICS)
def test_black_and_white_are_normalised_by_the_statistics_of_their_data_set(name: str, tmp_path) -> None:
    features = {"img": datasets.Image(), "label": datasets.ClassLabel(num_classes=100 if name == "cifar100" else 10)}
    shades = [TF.to_pil_image(torch.full((3, 32, 32), shade)) for shade in (0.0, 1.0)]
    for split in ("train", "test"):
        rows = datasets.Dataset.from_dict({"img": shades, "label": [0, 1]}, datasets.Features(features))
        rows.to_parquet(tmp_path / f"{split}.parquet")
    splits = load_cifar(name, str(tmp_path), "cpu")
    mean, std = (torch.tensor(value) for value in STATISTICS[name])
    for images in (splits.train, splits.test):
        (black, white), _ = images.clean_batch(0, 2)
        for shade, found in ((0.0, black), (1.0, white)):
            expected = ((shade - mean) / std)[:, None, None].expand(3, 32, 32)
            torch.testing.assert_close(found, expected, rtol=2e-3, atol=2e-3)


def test_cifar_is_shifted_by_4_and_mirrored_and_a_digit_by_2_and_is_not() -> None:
    """As in the papers: 4 pixels of padding, random crop and flip; a mirrored digit is another sign."""
    for name, variation in (("cifar10", (4, "horizontal")), ("cifar100", (4, "horizontal")), ("digits", (2, "none"))):
        assert (RECIPES[name].shift, RECIPES[name].flip) == variation
    images = load_cifar("digits", None, "cpu", limit_train=100, limit_test=10, valid_fraction=0.5)
    assert [(part.shift, part.flip) for part in (images.train, images.valid, images.test)] == [
        (2, False), (0, False), (0, False),
    ]  # fmt: skip


def test_only_training_images_vary() -> None:
    images = replace(copies(True, 4), flip=False, shift=0)
    batch, _ = images.epoch(0, 0).batch(0, 50)
    assert (batch == images.clean_batch(0, 1)[0]).all()
