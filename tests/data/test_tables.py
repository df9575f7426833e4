"""The columns of a table are found by their types, and asked for where they may be several things."""

from pathlib import Path

import datasets
import pytest

from tests.data.readers import every_reader, large, refused, small
from tests.data.writers import NAMES, SMALL, publish, table, write_binary, write_images


def test_cifar100_takes_the_fine_labels(tmp_path):
    fine = datasets.ClassLabel(num_classes=100)
    for split, examples in SMALL.splits():
        rows = table(examples, None).rename_column("label", "coarse_label")
        rows = rows.cast_column("coarse_label", datasets.ClassLabel(num_classes=20))
        rows = rows.add_column("fine_label", [99 - i for i in range(len(rows))]).cast_column("fine_label", fine)
        rows.to_parquet(tmp_path / f"{split}.parquet")
    train = small(tmp_path, "cifar100").train
    assert train.labels.tolist() == list(range(99, 79, -1)) and train.num_classes == 100


def write_columns(folder: Path, **columns: list[str] | None) -> Path:
    """Label columns that count from their own start, with names or plain integers."""
    for split, examples in SMALL.splits():
        rows = table(examples).remove_columns("label")
        for start, (name, names) in enumerate(columns.items()):
            kind = datasets.ClassLabel(names=names) if names else datasets.Value("int64")
            labels = [(i + start) % 10 for i in range(len(rows))]
            rows = rows.add_column(name, labels).cast_column(name, kind)
        rows.to_parquet(folder / f"{split}.parquet")
    return folder


@every_reader
def test_a_label_that_may_be_several_columns_is_asked_for(read, tmp_path):
    write_columns(tmp_path, coarse=NAMES, fine=NAMES)
    refused("several columns that may be the labels, coarse and fine: name it with --label-col", read, tmp_path)
    for start, column in enumerate(("coarse", "fine")):
        assert read(tmp_path, label_column=column).train.labels[:3].tolist() == [start, start + 1, start + 2]
    refused("no column of labels shape among img, coarse, fine", read, tmp_path, label_column="shape")
    refused("no column of labels img among", read, tmp_path, label_column="img")


@pytest.mark.parametrize("read", [small, large])
def test_the_first_integer_is_not_taken_for_the_label(read, tmp_path):
    write_columns(tmp_path, row=None, y=None)
    refused("several columns that may be the labels, row and y", read, tmp_path)
    assert read(tmp_path, label_column="y").train.labels[:3].tolist() == [1, 2, 3]


@pytest.mark.parametrize("read", [small, large])
def test_an_integer_beside_labels_in_words_is_not_taken_for_the_label(read, tmp_path):
    for split, examples in SMALL.splits():
        rows = table(examples).remove_columns("label")
        rows = rows.add_column("row", list(range(len(rows))))
        rows.add_column("label", ["cat", "dog"] * (len(rows) // 2)).to_parquet(tmp_path / f"{split}.parquet")
    refused("a column label that holds no integers: convert it", read, tmp_path)


@every_reader
def test_the_usual_name_tells_the_label(read, tmp_path):
    write_columns(tmp_path, coarse=NAMES, label=NAMES)
    assert read(tmp_path).train.labels[:3].tolist() == [1, 2, 3]


def test_several_columns_of_images_are_refused(tmp_path):
    for split, examples in SMALL.splits():
        rows = table(examples).rename_column("img", "left")
        cells = rows.cast_column("left", datasets.Image(decode=False))["left"][:]
        rows = rows.add_column("right", cells).cast_column("right", datasets.Image())
        rows.to_parquet(tmp_path / f"{split}.parquet")
    refused("several columns that may be the images, left and right: keep one", small, tmp_path)


def test_a_label_column_is_for_tables(tmp_path, monkeypatch):
    for name, write in (("images", write_images), ("binary", write_binary)):
        (tmp_path / name).mkdir()
        write(tmp_path / name)
        publish(tmp_path / name, monkeypatch)
        refused("is no table with a column y: leave out --label-column", small, tmp_path / name, label_column="y")
    refused("digits is no table", small, None, "digits", label_column="y")
