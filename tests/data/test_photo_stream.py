"""A stream is read about once, every image of it exactly once, whatever the shards, processes and workers."""

import collections
import itertools
import json
import os
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

import utils.data.stream as photo_stream
import utils.training.interruption
from sparselearning.errors import UsageError
from tests.data.test_photos import CLASSES, CPU, encoded, equal, load, whole
from tests.outcomes import differences, outcome
from tests.processes import launch
from tests.tiny_imagenet import SUP, main
from utils.data.formats.row_groups import RowGroups
from utils.data.imagenet import load_imagenet
from utils.data.large_images import MEAN, STD
from utils.data.protocol import Splits
from utils.data.stream import local_permutation
from utils.training.batches import Batches, count_steps

TRAIN, TEST, GROUP = 101, 23, 4  # images, and images per row group


def table(start: int, stop: int, labels: Any = None) -> datasets.Dataset:
    """Image i is of one colour, its first channel i, and of class i % 3."""
    colours = [Image.new("RGB", (12 + i % 5, 12), (i, 100 * (i % 3), 9)) for i in range(start, stop)]
    features = datasets.Features({"image": datasets.Image(), "label": labels or datasets.ClassLabel(names=[*CLASSES])})
    images = [{"bytes": encoded(colour, "png"), "path": None} for colour in colours]
    return datasets.Dataset.from_dict({"image": images, "label": [i % 3 for i in range(start, stop)]}, features)


def write(folder: Path, shards: int, labels: Any = None) -> Path:
    """Parquet files of unequal length, and row groups too."""
    (folder / "data").mkdir(parents=True)
    for split, offset, count in (("train", 0, TRAIN), ("validation", TRAIN, TEST)):
        edges = [offset + count * i**2 // shards**2 for i in range(shards + 1)]
        for i, (start, stop) in enumerate(itertools.pairwise(edges)):
            rows = table(start, stop, labels).data.table
            pq.write_table(rows, folder / f"data/{split}-{i:05}-of-{shards:05}.parquet", row_group_size=GROUP)
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    return {shards: write(tmp_path_factory.mktemp("shards") / "of", shards) for shards in (1, 3, 5, 7)}


@pytest.fixture(autouse=True)
def narrow() -> Iterator[None]:
    """So few images are shuffled together that a lane has several such sets."""
    with mock.patch.object(photo_stream, "MIXED", (2, 1)):
        local_permutation.cache_clear()
        yield
        local_permutation.cache_clear()


def stream(folder: Path | None, world: int = 1, **options: Any) -> Splits:
    options = {"data": "any", "image_size": 8, "batch_size": 3, "workers": 0, **options}
    with mock.patch.dict(os.environ, WORLD_SIZE=str(world)):
        return load_imagenet(options.pop("data"), folder and str(folder), CPU, streaming=True, **options)


def numbers(images: Tensor) -> list[int]:
    """Which images these are."""
    return (255 * (images[:, 0, 4, 4] * STD[0] + MEAN[0])).round().int().tolist()


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
def test_a_lane_has_row_groups_of_its_own(sizes: list[int], chunk: int, lanes: int) -> None:
    starts = tuple(np.cumsum([0, *sizes]).tolist())
    order = local_permutation(starts, chunk, lanes, (0, 0))
    assert sorted(order) == list(range(starts[-1]))
    lane = np.arange(len(order)) // chunk % lanes
    group = np.searchsorted(starts, order, side="right") - 1
    together = max(photo_stream.MIXED[0], round(photo_stream.MIXED[1] * len(sizes) / len(order)))
    assert len({*zip(lane, group, strict=True)}) <= len(sizes) + 2 * together * min(lanes, len(order))


@pytest.mark.parametrize("world", [1, 2])
def test_a_row_group_is_read_about_once(tmp_path: Path, world: int) -> None:
    loads: collections.Counter[int] = collections.Counter()
    original = RowGroups._load

    def load_group(stream: RowGroups, group: int) -> Any:
        loads[group] += 1
        return original(stream, group)

    with mock.patch.object(RowGroups, "_load", load_group), mock.patch.object(photo_stream, "QUEUES", 2):
        folder = write(tmp_path / "a", 1)
        for rank in range(world):
            data = stream(folder, world)
            seen(data, 0, rank, world)
            assert len(data.train.samples.rows.held) < 20  # of 26
    assert len(loads) == 26 and loads.total() <= 26 + 2 * 2 * 2 * world


def test_a_seed_shuffles_images_and_row_groups() -> None:
    starts = tuple(range(0, 1001, 10))
    orders = [local_permutation(starts, 8, 8, draw) for draw in ((0, 0), (0, 1), (1, 0))]
    for a, b in itertools.combinations(orders, 2):
        assert (a == b).mean() < 0.02
    assert abs(np.corrcoef(orders[0], np.arange(1000))[0, 1]) < 0.1
    assert len(set(orders[0][:8] // 10)) == 2  # of the row groups that are shuffled together


# ---- a data set ----------------------------------------------------------------------------------------------------


def test_a_stream_has_the_samples_of_the_table(folders: dict[int, Path], tmp_path: Path) -> None:
    with mock.patch.object(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache"):
        rows = load(folders[3], image_size=8)
    data = stream(folders[3])
    assert (len(data.train), len(data.test), data.num_classes, data.valid) == (TRAIN, TEST, 3, None)
    for own, others in ((data.train, rows.train), (data.test, rows.test)):
        assert equal(own.clean_batch(0, len(own)), others.clean_batch(0, len(others)))
    assert numbers(data.test.clean_batch(0, TEST)[0]) == list(range(TRAIN, TRAIN + TEST))


def test_limits_keep_the_first_samples(folders: dict[int, Path]) -> None:
    data = stream(folders[3], limit_train=50, limit_test=7)
    assert (len(data.train), len(data.test)) == (50, 7)
    assert sorted(numbers(data.train.epoch(0, 0).batch(0, 50)[0])) == list(range(50))
    for options in ({"limit_train": TRAIN + 1}, {"limit_test": 0}):
        with pytest.raises(UsageError, match="cannot take the first"):
            stream(folders[3], **options)


def test_a_data_set_of_the_hub_is_read_from_its_files(folders: dict[int, Path]) -> None:
    files = {
        split: [f"file://{path}" for path in sorted((folders[5] / "data").glob(f"{split}*"))]
        for split in ("train", "validation")
    }
    names = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["x", "y", "z"])})
    builder = SimpleNamespace(info=SimpleNamespace(features=names), config=SimpleNamespace(data_files=files))
    with mock.patch.object(datasets, "load_dataset_builder", return_value=builder):
        data = stream(None)
        assert data.train.samples.rows.classes == ["x", "y", "z"]
        assert equal(data.train.epoch(0, 0).batch(0, TRAIN), stream(folders[5]).train.epoch(0, 0).batch(0, TRAIN))
        files["train"][0] = "hf://any/train.tar"
        with pytest.raises(UsageError, match=r"any has none.*--data-dir FOLDER") as error:
            stream(None)
    assert "\n" not in str(error.value)


# ---- mistakes ------------------------------------------------------------------------------------------------------


def lose_file(folder: Path) -> None:
    (folder / "data/train-00001-of-00003.parquet").unlink()


def lose_split(folder: Path) -> None:
    for file in (folder / "data").glob("validation*"):
        file.unlink()


def cut_file(folder: Path) -> None:
    file = folder / "data/train-00001-of-00003.parquet"
    file.write_bytes(file.read_bytes()[:-9])


def only_images(folder: Path) -> None:
    for file in (folder / "data").iterdir():
        file.rename(file.with_suffix(".jpg"))


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lose_file, "2 of 3 train files"),
        (lose_split, "no split val"),
        (cut_file, "cannot read the train split"),
        (only_images, "--streaming reads parquet files"),
    ],
)
def test_a_folder_that_is_wrong_is_refused(tmp_path: Path, spoil: Callable[[Path], None], says: str) -> None:
    spoil(write(tmp_path, 3))
    with pytest.raises(UsageError, match=says) as error:
        stream(tmp_path)
    assert "\n" not in str(error.value)


def test_classes_that_have_no_names_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not name its classes"):
        stream(write(tmp_path, 1, datasets.Value("int64")))


@pytest.mark.parametrize(
    ("options", "says"), [({"valid_fraction": 0.1}, "--valid-fraction"), ({"workers": 3}, "--workers 0, 1, 2, 4, 8")]
)
def test_options_that_do_not_go_with_a_stream_are_refused(
    folders: dict[int, Path], options: dict[str, Any], says: str
) -> None:
    with pytest.raises(UsageError, match=says):
        stream(folders[1], **options)


def test_without_data_the_error_says_how_to_get_it() -> None:
    with (
        mock.patch.object(datasets, "load_dataset_builder", side_effect=ConnectionError("Couldn't reach it\nat all")),
        pytest.raises(UsageError, match=r"ILSVRC/imagenet-1k.*hf auth login.*--data-dir") as error,
    ):
        stream(None, data="ILSVRC/imagenet-1k")
    assert "\n" not in str(error.value)


def spoil_image(rows: dict[str, list]) -> None:
    rows["image"][2]["bytes"] = rows["image"][2]["bytes"][:40]


def spoil_label(rows: dict[str, list]) -> None:
    rows["label"][2] = 3


def spoil_nothing(rows: dict[str, list]) -> None:
    """The file is gone after its footer was read."""


@pytest.mark.parametrize(
    ("spoil", "workers", "says"),
    [
        (spoil_image, 0, "row 2 of the train split .* is not a readable image"),
        (spoil_label, 0, r"row 2 of the train split .* has label 3, not 0\.\.2"),
        (spoil_nothing, 0, r"train\.parquet: .*go on with --resume auto"),
        (spoil_nothing, 1, r"train\.parquet: .*go on with --resume auto"),
    ],
)
def test_damage_stops_a_run_in_one_line(tmp_path: Path, spoil: Callable, workers: int, says: str) -> None:
    rows = table(0, 9).data.table
    content = rows.to_pydict()
    spoil(content)
    pq.write_table(pa.Table.from_pydict(content, rows.schema), tmp_path / "train.parquet")
    pq.write_table(rows, tmp_path / "test.parquet")
    data = stream(tmp_path, workers=workers)
    if spoil is spoil_nothing:
        (tmp_path / "train.parquet").unlink()
    with pytest.raises(UsageError, match=says) as error:
        list(data.train.epoch(0, 0).batches([(start, start + 3) for start in range(0, 9, 3)]))
    assert "\n" not in str(error.value)


# ---- end to end ----------------------------------------------------------------------------------------------------

RUN = (*SUP, "--streaming", "--epochs", "2", "--cycle-epochs", "1", "--num-tickets", "1", "--update-frequency", "2",
       "--limit-train", "60")  # 4 steps each  # fmt: skip


def test_a_run_that_is_cut_inside_an_epoch_ends_with_the_same_bits(folders: dict[int, Path], tmp_path: Path) -> None:
    straight, cut = ((*RUN, "--workers", "1", "--output-dir", str(tmp_path / name)) for name in ("straight", "cut"))
    assert main(folders[3], *straight)[::2] == (0, "")
    resume = (*cut, "--resume", "auto")
    assert main(folders[3], *resume, stop=6)[0] == 143
    status, _, err = main(folders[3], *resume, "--batch-size", "8", "--gradient-accumulation-steps", "2")
    assert status == 2 and "gradient_accumulation_steps 1, not 2" in err and err.count("\n") == 1
    assert main(folders[3], *resume)[0] == 0
    assert differences(outcome(tmp_path / "straight"), outcome(tmp_path / "cut")) == []


def run_both(folder: Path, place: Path) -> None:
    """Cut a run on both processes, go on, and run to the end at once."""
    for name, stop in (("cut", 3), ("cut", None), ("straight", None)):
        options = (*RUN, "--batch-size", "8", "--workers", "0", "--output-dir", str(place / name), "--resume", "auto")
        with mock.patch.object(utils.training.interruption, "POLL_STEPS", 1):
            status, _, err = main(folder, *options, stop=stop)
        rank = os.environ["RANK"]
        (place / f"{name}-{stop}.{rank}.json").write_text(json.dumps([status, err]))


def test_two_processes_stream_to_the_same_end(folders: dict[int, Path], tmp_path: Path) -> None:
    assert launch(2, run_both, folders[1], tmp_path, timeout=300) == [0, 0]
    for name, status in (("cut-3", 143), ("cut-None", 0), ("straight-None", 0)):
        results = [json.loads((tmp_path / f"{name}.{rank}.json").read_text()) for rank in range(2)]
        assert results == [[status, ""]] * 2
    assert differences(outcome(tmp_path / "straight"), outcome(tmp_path / "cut")) == []
