"""Parquet files are streamed from where they are, on the Hub or a disk; damage is named when it is met."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.data.readers import equal, refused, stream
from tests.data.streams import TRAIN, colored


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
        refused(r"any has none.*--data-dir FOLDER", stream, None)


# ---- damage --------------------------------------------------------------------------------------------------------


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
    rows = colored(0, 9).data.table
    content = rows.to_pydict()
    spoil(content)
    pq.write_table(pa.Table.from_pydict(content, rows.schema), tmp_path / "train.parquet")
    pq.write_table(rows, tmp_path / "test.parquet")
    data = stream(tmp_path, workers=workers)
    if spoil is spoil_nothing:
        (tmp_path / "train.parquet").unlink()
    ranges = [(start, start + 3) for start in range(0, 9, 3)]
    refused(says, lambda: list(data.train.epoch(0, 0).batches(ranges)))
