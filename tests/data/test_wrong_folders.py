"""Whatever is wrong with a folder of data is named in one line, with the remedy."""

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.data.readers import large, refused, small, stream
from tests.data.writers import (
    LARGE,
    NAMES,
    SMALL,
    table,
    write_binary_inside,
    write_images,
    write_parquet,
    write_plain_parquet,
    write_row_groups,
    write_saved,
)

# ---- small images --------------------------------------------------------------------------------------------------


def no_folder(folder):
    folder.rmdir()


def nothing(folder):
    pass


def no_test_parquet(folder):
    table(SMALL.train).to_parquet(folder / "train.parquet")


def no_test_images(folder):
    write_images(folder)
    (folder / "test").rename(folder / "more")


def missing_shard(folder):
    write_parquet(folder)
    (folder / "train-00001-of-00003.parquet").unlink()


def corrupt_parquet(folder):
    write_parquet(folder)
    (folder / "train-00001-of-00003.parquet").write_bytes(b"version https://git-lfs.github.com/spec/v1")


def other_schema(folder):
    write_parquet(folder)
    table(SMALL.train, None).to_parquet(folder / "train-00001-of-00003.parquet")


def corrupt_saved(folder):
    write_saved(folder)
    next((folder / "train").glob("*.arrow")).write_bytes(b"no arrow")


def corrupt_image(folder):
    write_images(folder)
    file = folder / "train" / "class3" / "003.png"
    file.write_bytes(file.read_bytes()[:500])


def change_row(file, row, column, value):
    rows = pq.read_table(file).to_pylist()
    rows[row][column] = value
    pq.write_table(pa.Table.from_pylist(rows), file)


def no_image_in_a_row(folder):
    write_parquet(folder)
    change_row(folder / "test-00000-of-00001.parquet", 7, "img", None)


def large_image(folder):
    write_images(folder)
    Image.new("RGB", (96, 64)).save(folder / "test" / "class0" / "000.png")


def eleven_classes(folder):
    for split, examples in SMALL.splits():
        table(examples, [*NAMES, "other"]).to_parquet(folder / f"{split}.parquet")


def label_outside(folder):
    write_plain_parquet(folder)
    change_row(folder / "train" / "0000.parquet", 5, "y", 10)


def label_missing(folder):
    write_plain_parquet(folder)
    change_row(folder / "train" / "0000.parquet", 5, "y", None)


def no_labels(folder):
    for split, examples in SMALL.splits():
        table(examples).remove_columns("label").to_parquet(folder / f"{split}.parquet")


def other_classes_in_test(folder):
    write_images(folder)
    (folder / "test" / "class4").rename(folder / "test" / "a cat")


def empty_class(folder):
    write_images(folder)
    (folder / "train" / "class3" / "003.png").unlink()
    (folder / "train" / "class3" / "013.png").unlink()


def wrong_md5(folder):
    write_binary_inside(folder)


MISTAKES = {
    no_folder: r"no folder .*: give --data-dir",
    nothing: r"holds no images in a form that is known: --data-dir takes parquet files",
    no_test_parquet: r"has no split test or val or .*, but train: add one",
    no_test_images: r"has no split test or val or .*, but train: add one",
    missing_shard: r"has 2 of 3 train files: copy the others",
    corrupt_parquet: r"cannot read .*/train-00001-of-00003.parquet: .*; copy it again",
    other_schema: r"the train files of .* do not fit together: .*; keep the files of one data set",
    corrupt_saved: r"cannot read .*: .*; save it again",
    corrupt_image: r"/train/class3/003.png is not a readable image: .*truncated; copy it again",
    no_image_in_a_row: r"row 7 of the test split of .* is not a readable image",
    large_image: r"/test/class0/000.png is 96×64 pixels, not 32×32: resize",
    eleven_classes: r"the train split of .* has 11 classes, not 10: check --data ",
    label_outside: r"row 5 of the train split of .* has label 10, not 0\.\.9: check --data, ",
    label_missing: r"row 5 of the train split of .* has no label: check --data, ",
    no_labels: r"the train split of .* has no column of labels among img: check --data-dir",
    other_classes_in_test: r"has class a cat in only one of the train split .* and the test split .*: give both",
    empty_class: r"/train has no images of class class3: every class needs",
    wrong_md5: r"cannot read the CIFAR files in .*: batches.meta is not as it was published; download and unpack",
}


@pytest.mark.parametrize("make", MISTAKES)
def test_a_wrong_folder_is_named(make, tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    make(folder)
    refused(MISTAKES[make], small, folder)


# ---- large images --------------------------------------------------------------------------------------------------


def class_without_images(folder):
    (folder / "train" / "dog").mkdir()


def other_classes(folder):
    (folder / "val" / "ant").rename(folder / "val" / "ape")


def no_test(folder):
    (folder / "val").rename(folder / "more")


def no_classes(folder):
    for place in (folder / "train").iterdir():
        place.rename(folder / place.name)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [(class_without_images, "dog"), (other_classes, "ant in only one"), (no_test, "no split val"),
     (no_classes, "any class")],
)  # fmt: skip
def test_a_folder_of_large_images_that_is_wrong_is_refused(spoil, says, tmp_path):
    spoil(write_images(tmp_path, LARGE))
    refused(says, large, tmp_path)


def test_tables_that_are_wrong_are_refused(tmp_path):
    for name in "abc":
        (tmp_path / name).mkdir()
    (write_parquet(tmp_path / "a", LARGE) / "train-00001-of-00003.parquet").unlink()
    refused("2 of 3 train files", large, tmp_path / "a")
    secret = table([(b"", 0), (b"", -1)], None)
    datasets.DatasetDict(train=secret, test=secret).save_to_disk(str(tmp_path / "b"))
    refused(r"row 1 of the train split .* has label -1", large, tmp_path / "b")
    datasets.DatasetDict(train=table(LARGE.train)).save_to_disk(str(tmp_path / "c"))
    refused("no split val", large, tmp_path / "c")


# ---- streams -------------------------------------------------------------------------------------------------------


def write_stream(folder, names=LARGE.names):
    tables = {split: table(examples, names) for split, examples in LARGE.splits()}
    return write_row_groups(folder, tables, shards=3, group=4)


def lose_file(folder):
    (folder / "data/train-00001-of-00003.parquet").unlink()


def lose_split(folder):
    for file in (folder / "data").glob("val*"):
        file.unlink()


def cut_file(folder):
    file = folder / "data/train-00001-of-00003.parquet"
    file.write_bytes(file.read_bytes()[:-9])


def only_images(folder):
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
def test_a_folder_to_stream_that_is_wrong_is_refused(spoil, says, tmp_path):
    spoil(write_stream(tmp_path))
    refused(says, stream, tmp_path)


def test_classes_that_have_no_names_are_refused(tmp_path):
    refused("does not name its classes", stream, write_stream(tmp_path, None))
