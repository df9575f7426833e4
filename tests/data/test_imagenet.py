"""Which of the large images of a data set make its splits."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.data.readers import large, refused
from tests.data.writers import LARGE, write_images


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("images"), LARGE)


def test_the_first_images_of_a_folder_are_of_all_classes(folder: Path) -> None:
    data = large(folder, limit_train=7, limit_test=3)
    assert data.train.clean_batch(0, 7)[1].tolist() == [0, 1, 2, 0, 1, 2, 0]
    assert (len(data.train), len(data.test), data.num_classes) == (7, 3, 3)


def test_held_out_images_are_not_trained_on_and_always_the_same(folder: Path) -> None:
    data = large(folder, valid_fraction=0.25)
    assert data.valid is not None and (len(data.train), len(data.valid)) == (18, 6)
    index = np.concatenate([data.train.samples.index, data.valid.samples.index])
    assert sorted(index) == list(range(24))
    again = large(folder, valid_fraction=0.25)
    assert np.array_equal(again.valid.samples.index, data.valid.samples.index)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"limit_train": 0}, "cannot take the first 0 of the train split .*: give 1 to 24"),
        ({"limit_test": 10}, "cannot take the first 10 of the val split .*: give 1 to 9"),
        ({"valid_fraction": 0.01}, "--valid-fraction 0.01 of 24 images leaves a set empty"),
        ({"valid_fraction": 1.0}, r"--valid-fraction 1.0 is not in \[0, 1\)"),
    ],
)
def test_options_that_leave_nothing_are_refused(folder: Path, options: dict[str, Any], says: str) -> None:
    refused(says, large, folder, **options)
