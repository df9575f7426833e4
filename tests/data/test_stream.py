"""A stream is read about once, every image of it exactly once, whatever the shards, processes and workers."""

import collections
import itertools
import pickle
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import utils.data.stream
from tests.data.readers import equal, large, refused, stream, whole
from tests.data.streams import TEST, TRAIN, numbers, write_stream
from utils.data.formats.row_groups import RowGroups
from utils.data.protocol import Splits
from utils.data.stream import local_permutation
from utils.training.batches import Batches, count_steps

pytestmark = pytest.mark.usefixtures("narrow")


def seen(data: Splits, epoch: int, rank: int, world: int, accumulation: int = 1, first: int = 0) -> list[list[int]]:
    """The images that a process trains on in each step of an epoch, as `utils.training.loop` asks for them."""
    parts, order = world * accumulation, data.train.epoch(0, epoch)
    cut = Batches(len(order), 3 * parts, parts, count_steps(len(order), 3 * parts, parts))
    steps = range(first, cut.steps)
    batches = order.batches(part for step in steps for part in cut.parts_of(step, rank, world))
    result = []
    for _ in steps:
        images, labels = whole(itertools.islice(batches, accumulation))
        result.append(numbers(images))
        assert labels.tolist() == [number % 3 for number in result[-1]]
    return result


# ---- an epoch ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shards", [1, 3, 5, 7])
@pytest.mark.parametrize(("world", "accumulation"), [(1, 1), (2, 1), (4, 1), (2, 2)])
def test_the_processes_see_every_image_once(
    folders: dict[int, Path], shards: int, world: int, accumulation: int
) -> None:
    data, parts = stream(folders[shards], world), world * accumulation
    for epoch in (0, 1):
        ranks = [seen(data, epoch, rank, world, accumulation) for rank in range(world)]
        assert {len(rank) for rank in ranks} == {count_steps(TRAIN, 3 * parts, parts)}
        images = [number for rank in ranks for step in rank for number in step]
        assert len(set(images)) == len(images) and set(images) <= set(range(TRAIN))
        assert TRAIN - len(images) < 2 * parts
        again = stream(folders[shards], world)
        assert ranks == [seen(again, epoch, rank, world, accumulation) for rank in range(world)]
    assert seen(data, 0, 0, world) != seen(data, 1, 0, world)


def test_a_stream_goes_on_inside_an_epoch(folders: dict[int, Path]) -> None:
    for world, accumulation in ((1, 1), (2, 2)):
        for rank in range(world):
            data = stream(folders[3], world)
            straight = seen(data, 4, rank, world, accumulation)
            assert seen(stream(folders[3], world), 4, rank, world, accumulation, first=5) == straight[5:]


@pytest.mark.parametrize("cuts", [(0, TRAIN), (0, 1, 2, TRAIN), (0, 33, 33, 60, TRAIN), tuple(range(TRAIN + 1))])
def test_any_cut_of_an_epoch_gives_the_same_samples(folders: dict[int, Path], cuts: tuple[int, ...]) -> None:
    order = stream(folders[5], world=2).train.epoch(0, 1)
    assert equal(whole(order.batches(itertools.pairwise(cuts))), order.batch(0, TRAIN))


def test_the_number_of_workers_changes_nothing(folders: dict[int, Path]) -> None:
    ranges = [(start, min(start + 3, TRAIN)) for start in range(0, TRAIN, 3)]
    alone = stream(folders[3])
    for workers in (1, 2):
        data = stream(folders[3], workers=workers)
        data.train.epoch(9, 9).batch(0, 5)  # what this process has begun to read is not the workers'
        for epoch in (0, 1):
            assert equal(whole(data.train.epoch(0, epoch).batches(ranges)), alone.train.epoch(0, epoch).batch(0, TRAIN))
        assert equal(whole(data.test.clean_batches([(0, 5), (5, TEST)])), alone.test.clean_batch(0, TEST))


def test_a_stream_may_be_sent_to_another_process(folders: dict[int, Path]) -> None:
    samples = stream(folders[3]).train.samples
    work = (30, 40, (0, 0))
    assert equal(samples[work], pickle.loads(pickle.dumps(samples))[work])


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=60).filter(any), st.integers(1, 9), st.integers(1, 40))
def test_a_queue_has_row_groups_of_its_own(sizes: list[int], chunk: int, queues: int) -> None:
    starts = tuple(np.cumsum([0, *sizes]).tolist())
    order = local_permutation(starts, chunk, queues, (0, 0))
    assert sorted(order) == list(range(starts[-1]))
    queue = np.arange(len(order)) // chunk % queues
    group = np.searchsorted(starts, order, side="right") - 1
    together = max(utils.data.stream.MIXED[0], round(utils.data.stream.MIXED[1] * len(sizes) / len(order)))
    assert len({*zip(queue, group, strict=True)}) <= len(sizes) + 2 * together * min(queues, len(order))


@pytest.mark.parametrize("world", [1, 2])
def test_a_row_group_is_read_about_once(tmp_path: Path, world: int) -> None:
    loads: collections.Counter[int] = collections.Counter()
    original = RowGroups._load

    def load_group(stream: RowGroups, group: int) -> Any:
        loads[group] += 1
        return original(stream, group)

    with mock.patch.object(RowGroups, "_load", load_group), mock.patch.object(utils.data.stream, "QUEUES", 2):
        folder = write_stream(tmp_path / "a", 1)
        for rank in range(world):
            data = stream(folder, world)
            seen(data, 0, rank, world)
            assert len(data.train.samples.rows.held) < 20  # of 26
    assert len(loads) == 26 and loads.total() <= 26 + 2 * 2 * 2 * world


def test_a_seed_shuffles_images_and_row_groups() -> None:
    starts = tuple(range(0, 1001, 10))
    orders = [local_permutation(starts, 8, 8, key) for key in ((0, 0), (0, 1), (1, 0))]
    for a, b in itertools.combinations(orders, 2):
        assert (a == b).mean() < 0.02
    assert abs(np.corrcoef(orders[0], np.arange(1000))[0, 1]) < 0.1
    assert len(set(orders[0][:8] // 10)) == 2  # of the row groups that are shuffled together


# ---- a data set ----------------------------------------------------------------------------------------------------


def test_a_stream_has_the_samples_of_the_table(folders: dict[int, Path]) -> None:
    rows, data = large(folders[3], image_size=8), stream(folders[3])
    assert (len(data.train), len(data.test), data.num_classes, data.valid) == (TRAIN, TEST, 3, None)
    for own, others in ((data.train, rows.train), (data.test, rows.test)):
        assert equal(own.clean_batch(0, len(own)), others.clean_batch(0, len(others)))
    assert numbers(data.test.clean_batch(0, TEST)[0]) == list(range(TRAIN, TRAIN + TEST))


def test_limits_keep_the_first_samples(folders: dict[int, Path]) -> None:
    data = stream(folders[3], limit_train=50, limit_test=7)
    assert (len(data.train), len(data.test)) == (50, 7)
    assert sorted(numbers(data.train.epoch(0, 0).batch(0, 50)[0])) == list(range(50))
    for options in ({"limit_train": TRAIN + 1}, {"limit_test": 0}):
        refused("cannot take the first", stream, folders[3], **options)


@pytest.mark.parametrize(
    ("options", "says"), [({"valid_fraction": 0.1}, "--valid-fraction"), ({"workers": 3}, "--workers 0, 1, 2, 4, 8")]
)
def test_options_that_do_not_go_with_a_stream_are_refused(
    folders: dict[int, Path], options: dict[str, Any], says: str
) -> None:
    refused(says, stream, folders[1], **options)
