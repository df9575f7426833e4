"""A row of RECIPES is all that a data set needs to be read, normalized and varied as it should be."""

from pathlib import Path
from unittest import mock

import datasets
import numpy as np
import pytest
import torch

from tests.data.readers import refused, small
from tests.data.writers import SMALL, encoded, pixels_and_labels, table, write_parquet
from utils.data.recipes import RECIPES, Recipe

# from the data themselves, by other projects (kuangliu/pytorch-cifar, weiaicunzai/pytorch-cifar100; of SVHN there are
# many that have computed the same)
STATISTICS = {
    "cifar10": ((0.49139968, 0.48215841, 0.44653091), (0.24703223, 0.24348513, 0.26158784)),
    "cifar100": ((0.50707516, 0.48654887, 0.44091784), (0.26733429, 0.25643846, 0.27615047)),
    "svhn": ((0.4376821, 0.4437697, 0.47280442), (0.19803012, 0.20101562, 0.19703614)),
}


@pytest.mark.parametrize("name", STATISTICS)
def test_black_and_white_are_normalized_by_the_statistics_of_their_data_set(name: str, tmp_path: Path) -> None:
    names = [str(i) for i in range(RECIPES[name].num_classes or 0)]
    shades = [(encoded(np.full((32, 32, 3), shade, np.uint8)), label) for label, shade in enumerate((0, 255))]
    for split in ("train", "test"):
        table(shades, names).to_parquet(tmp_path / f"{split}.parquet")
    splits = small(tmp_path, name)
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
    images = small(None, "digits", limit_train=100, limit_test=10, valid_fraction=0.5)
    assert [(part.shift, part.flip) for part in (images.train, images.valid, images.test)] == [
        (2, False), (0, False), (0, False),
    ]  # fmt: skip


def write_copy(folder: Path) -> None:
    """SVHN as a copy of all that the Hub has of it: digits alone, more of them, and the numbers that they are from."""
    for config in ("cropped_digits", "full_numbers"):
        (folder / config).mkdir()
    write_parquet(folder / "cropped_digits")
    table(SMALL.train).to_parquet(folder / "cropped_digits/extra-00000-of-00002.parquet")
    table(SMALL.test).rename_column("label", "digits").to_parquet(folder / "full_numbers/train-00000-of-00001.parquet")


def test_one_configuration_of_several_is_read_from_a_local_copy(tmp_path: Path) -> None:
    write_copy(tmp_path)
    for folder in (tmp_path, tmp_path / "cropped_digits"):
        data = small(folder, "svhn")
        assert (len(data.train), len(data.test), data.num_classes) == (20, 10, 10)
        assert np.array_equal(data.train.images[:, 4:36, 4:36], pixels_and_labels("train")[0])
        assert not data.train.flip and data.about["flip"] == "none"


def test_a_row_names_a_data_set_of_the_hub_and_a_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    tables = datasets.DatasetDict({split: table(examples) for split, examples in SMALL.splits()})
    asked = mock.Mock(return_value=tables)
    monkeypatch.setattr(datasets, "load_dataset", asked)
    monkeypatch.setitem(RECIPES, "signs", Recipe("someone/signs", "small", num_classes=10, shift=0))
    data = small(None, "signs")
    asked.assert_called_once_with("someone/signs", "small")
    assert (len(data.train), data.train.shift, len(data.about["mean"])) == (20, 0, 3)
    refused("choose from .*signs, or give", small, None, "sign")
