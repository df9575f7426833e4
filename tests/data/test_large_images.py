"""A batch of large images depends on nothing but (seed, epoch, position), whatever the workers."""

import itertools
import os
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision.transforms.v2.functional as TF
from PIL import Image

from tests.data.readers import CPU, equal, large, refused, whole
from tests.data.writers import LARGE, encoded, write_images
from utils.data.formats.image_folder import ImageFolder
from utils.data.large_images import MEAN, STD, LargeImages, Samples
from utils.data.rows import EncodedRows

TRAIN, TEST = len(LARGE.train), len(LARGE.test)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("images"), LARGE)


def test_an_epoch_is_a_function_of_seed_epoch_and_position(folder: Path) -> None:
    train = large(folder).train
    reference = train.epoch(3, 5).batch(0, TRAIN)
    assert len(train.epoch(3, 5)) == len(train) == TRAIN
    assert reference[0].shape == (TRAIN, 3, 16, 16) and reference[0].dtype == torch.float32
    assert reference[0].is_contiguous(memory_format=torch.channels_last)
    assert sorted(reference[1].tolist()) == sorted(i % 3 for i in range(TRAIN))
    assert equal(large(folder).train.epoch(3, 5).batch(0, TRAIN), reference)
    for other in ((3, 6), (4, 5), (-1, 0)):
        assert not torch.equal(train.epoch(*other).batch(0, TRAIN)[0], reference[0])


@pytest.mark.parametrize("cuts", [(0, 24), (0, 1, 2, 24), (0, 7, 7, 13, 20, 24), tuple(range(25))])
def test_any_cut_of_an_epoch_gives_the_same_samples(folder: Path, cuts: tuple[int, ...]) -> None:
    order = large(folder).train.epoch(0, 1)
    ranges = list(itertools.pairwise(cuts))
    assert equal(whole(order.batches(iter(ranges))), order.batch(0, TRAIN))
    later = [r for r in ranges if r[0] >= 7]  # what a resumed epoch asks for
    if later:
        assert equal(whole(order.batches(later)), order.batch(later[0][0], TRAIN))


def test_the_number_of_workers_changes_nothing(folder: Path) -> None:
    ranges = [(start, start + 4) for start in range(0, TRAIN, 4)]
    alone = large(folder)
    for workers in (1, 2):
        data = large(folder, workers=workers)
        state = torch.get_rng_state()
        for epoch in (0, 1):
            assert equal(whole(data.train.epoch(0, epoch).batches(ranges)), alone.train.epoch(0, epoch).batch(0, TRAIN))
        assert equal(whole(data.test.clean_batches([(0, 5), (5, TEST)])), alone.test.clean_batch(0, TEST))
        assert torch.equal(torch.get_rng_state(), state)  # dropout draws from it


def test_batches_that_were_left_may_be_followed_by_others(folder: Path) -> None:
    data, ranges = large(folder, workers=1).train, [(start, start + 2) for start in range(0, TRAIN, 2)]
    left = data.epoch(0, 0).batches(ranges)
    next(left)
    assert equal(whole(data.epoch(0, 1).batches(ranges)), data.epoch(0, 1).batch(0, TRAIN))
    with pytest.raises(AssertionError, match="another stream"):
        next(left)


def test_batches_are_normalized(folder: Path) -> None:
    data = large(folder).test
    pixels = data.samples[0, TEST, None][0].permute(0, 3, 1, 2)
    expected = TF.normalize(pixels / 255, list(MEAN), list(STD))
    assert torch.allclose(data.clean_batch(0, TEST)[0], expected, atol=1e-5)


class Shades(EncodedRows):
    """Eight images of one gray each, which their label tells."""

    def __init__(self) -> None:
        super().__init__("memory", torch.arange(8).flip(0), [str(i) for i in range(8)])

    def read(self, row: int) -> bytes:
        return encoded(Image.new("RGB", (30, 20), (30 * int(self.labels[row]),) * 3))

    def listing(self) -> bytes:
        return b""


def test_labels_come_along_with_their_images() -> None:
    """Of shuffled and of stored ones, where the split is a part of all rows too."""
    for index in (np.arange(8), np.array([1, 2, 5, 7])):
        rows = Shades()
        images = LargeImages(Samples(rows, index, 8), 8, CPU, workers=0)
        kept = sorted(rows.labels[index].tolist())
        for batch, labels in (images.clean_batch(0, len(index)), *(images.epoch(0, e).batch(0, 8) for e in range(3))):
            shades = batch[:, 0, 0, 0] * 0.229 + 0.485
            assert (255 * shades / 30).round().long().tolist() == labels.tolist() and sorted(labels.tolist()) == kept
    assert len({tuple(images.epoch(0, epoch).batch(0, 4)[1].tolist()) for epoch in range(6)}) > 1


# ---- what stops a run ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_image_stops_a_run_in_one_line(tmp_path: Path, workers: int) -> None:
    write_images(tmp_path, LARGE)
    broken = sorted((tmp_path / "train" / "bee").iterdir())[2]
    broken.write_bytes(broken.read_bytes()[:40])
    order = large(tmp_path, workers=workers).train.epoch(0, 0)
    ranges = [(start, start + 4) for start in range(0, TRAIN, 4)]
    refused(f"^{broken} is not a readable image", lambda: list(order.batches(ranges)))


def test_a_worker_that_dies_is_reported_with_a_remedy(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageFolder, "pixels", lambda rows, row: os._exit(1))
    data = large(folder, workers=1)
    refused("--workers 0", lambda: list(data.train.epoch(0, 0).batches([(0, 4)])))
