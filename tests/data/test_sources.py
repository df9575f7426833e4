"""What a folder or a table holds is found whatever its form, and asked for where it may be several things."""

import shutil
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import datasets
import numpy as np
import pytest
from PIL import Image

from sparselearning.errors import UsageError
from tests.data.test_data import (  # fmt: skip
    encoded,
    pixels_and_labels,
    publish,
    table,
    write_binary,
    write_images,
    write_parquet,
    write_saved,
)
from tests.data.test_photo_stream import stream
from tests.data.test_photos import load
from utils.data.cifar import load_cifar
from utils.data.decoding import decode_image
from utils.data.protocol import Splits


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory):
    with mock.patch.object(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache")):
        yield


def small(folder: Path, column: str | None = None, limit: int | None = None) -> Splits:
    return load_cifar("cifar10", str(folder), "cpu", limit_train=limit, label_column=column)


def photos(folder: Path, column: str | None = None, limit: int | None = None) -> Splits:
    return load(folder, label_column=column, limit_train=limit)


def streamed(folder: Path, column: str | None = None, limit: int | None = None) -> Splits:
    data = stream(folder, label_column=column, limit_train=limit)
    data.train.clean_batch(0, len(data.train))  # only now are the labels known
    return data


READERS = [small, photos, streamed]
every_reader = pytest.mark.parametrize("read", READERS)


def assert_refused(says: str, read: Callable[..., object], *args: object) -> None:
    with pytest.raises(UsageError, match=says) as error:
        read(*args)
    assert "\n" not in str(error.value)


# ---- classes in turns ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("read", [small, photos])
def test_a_limit_takes_classes_in_turns(read, tmp_path):
    write_images(tmp_path)
    (tmp_path / "train/class2/022.png").write_bytes((tmp_path / "train/class2/002.png").read_bytes())
    assert read(tmp_path, limit=13).train.labels.tolist() == [*range(10), 0, 1, 2]
    assert read(tmp_path).train.labels.tolist() == [*range(10), *range(10), 2]


# ---- columns -------------------------------------------------------------------------------------------------------


def write_columns(folder: Path, **columns: list[str] | None) -> Path:
    """Label columns that count from their own start, with names or plain integers."""
    for split in ("train", "test"):
        rows = table(split).remove_columns("label")
        for start, (name, names) in enumerate(columns.items()):
            kind = datasets.ClassLabel(names=names) if names else datasets.Value("int64")
            labels = [(i + start) % 10 for i in range(len(rows))]
            rows = rows.add_column(name, labels, feature=kind)
        rows.to_parquet(folder / f"{split}.parquet")
    return folder


NAMES = [f"class{i}" for i in range(10)]


@every_reader
def test_a_label_that_may_be_several_columns_is_asked_for(read, tmp_path):
    write_columns(tmp_path, coarse=NAMES, fine=NAMES)
    assert_refused("several columns that may be the labels, coarse and fine: name it with --label-col", read, tmp_path)
    for start, column in enumerate(("coarse", "fine")):
        assert read(tmp_path, column).train.labels[:3].tolist() == [start, start + 1, start + 2]
    assert_refused("no column of labels shape among img, coarse, fine", read, tmp_path, "shape")
    assert_refused("no column of labels img among", read, tmp_path, "img")


@pytest.mark.parametrize("read", [small, photos])
def test_the_first_integer_is_not_taken_for_the_label(read, tmp_path):
    write_columns(tmp_path, row=None, y=None)
    assert_refused("several columns that may be the labels, row and y", read, tmp_path)
    assert read(tmp_path, "y").train.labels[:3].tolist() == [1, 2, 3]


@pytest.mark.parametrize("read", [small, photos])
def test_an_integer_beside_labels_in_words_is_not_taken_for_the_label(read, tmp_path):
    for split in ("train", "test"):
        rows = table(split).remove_columns("label")
        rows = rows.add_column("row", list(range(len(rows))))
        rows.add_column("label", ["cat", "dog"] * (len(rows) // 2)).to_parquet(tmp_path / f"{split}.parquet")
    assert_refused("a column label that holds no integers: convert it", read, tmp_path)


@every_reader
def test_the_usual_name_tells_the_label(read, tmp_path):
    write_columns(tmp_path, coarse=NAMES, label=NAMES)
    assert read(tmp_path).train.labels[:3].tolist() == [1, 2, 3]


def test_several_columns_of_images_are_refused(tmp_path):
    for split in ("train", "test"):
        rows = table(split).rename_column("img", "left")
        cells = rows.cast_column("left", datasets.Image(decode=False))["left"][:]
        rows.add_column("right", cells, feature=datasets.Image()).to_parquet(tmp_path / f"{split}.parquet")
    assert_refused("several columns that may be the images, left and right: keep one", small, tmp_path)


def test_a_label_column_is_for_tables(tmp_path, monkeypatch):
    for name, write in (("images", write_images), ("binary", write_binary)):
        (tmp_path / name).mkdir()
        write(tmp_path / name)
        publish(tmp_path / name, monkeypatch)
        assert_refused("is no table with a column y: leave out --label-column", small, tmp_path / name, "y")
    with pytest.raises(UsageError, match="digits is no table"):
        load_cifar("digits", None, "cpu", label_column="y")


# ---- splits --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["val", "validation", "valid"])
@pytest.mark.parametrize("write", [write_images, write_saved, write_parquet])
def test_a_held_out_split_is_the_test_split_where_there_is_no_other(write, name, tmp_path):
    write(tmp_path)
    test = next(tmp_path.glob("test*"))
    test.rename(tmp_path / test.name.replace("test", name))
    if write is write_saved:
        (tmp_path / "dataset_dict.json").write_text(f'{{"splits": ["train", "{name}"]}}')
    assert np.array_equal(small(tmp_path).test.images[:, 4:36, 4:36], pixels_and_labels("test")[0])


def test_the_test_split_goes_before_a_held_out_one(tmp_path):
    write_images(tmp_path)
    shutil.copytree(tmp_path / "train", tmp_path / "val")
    assert len(small(tmp_path).test) == 10


# ---- names of folders ----------------------------------------------------------------------------------------------


@every_reader
@pytest.mark.parametrize("name", ["a[1]", "a*", "a?", "[b]*"])
def test_a_folder_is_no_pattern(read, name, tmp_path):
    for folder, kind in ((tmp_path / "a1", "a1"), (tmp_path / "ab", "ab"), (tmp_path / name, name)):
        folder.mkdir()
        write_parquet(folder)
        if kind != name:  # twice the images
            table("train").to_parquet(folder / "train-more.parquet")
            for file in folder.glob("train-0*"):
                file.rename(folder / file.name.replace("-of-", "_"))
    assert len(read(tmp_path / name).train) == 20


@pytest.mark.parametrize("read", [small, photos])
@pytest.mark.parametrize("write", [write_saved, write_images])
def test_other_forms_in_a_folder_that_looks_like_a_pattern(read, write, tmp_path):
    folder = tmp_path / "a[b]*"
    folder.mkdir()
    write(folder)
    assert len(read(folder).train) == 20


# ---- images ----------------------------------------------------------------------------------------------------------

GREY16 = np.linspace(0, 65535, 1024).reshape(32, 32).astype(np.uint16)


@pytest.mark.parametrize("kind", ["png", "tiff"])
def test_16_bits_of_grey_are_no_white(kind, tmp_path):
    write_images(tmp_path)
    Image.fromarray(GREY16).save(tmp_path / "train/class0/000.png", kind)
    found = small(tmp_path).train.images[0, 4:36, 4:36].numpy()
    assert np.array_equal(found, np.repeat((GREY16 // 256).astype(np.uint8)[:, :, None], 3, axis=2))


@pytest.mark.parametrize(
    "pixels", [GREY16.astype(np.float32), GREY16.astype(np.int32) + 1, GREY16.astype(np.int32) - 1]
)
def test_images_whose_white_is_unknown_are_refused(pixels, tmp_path):
    Image.fromarray(pixels).save(tmp_path / "deep.tiff")
    with pytest.raises(ValueError, match="not of 8 or 16 bits"):
        decode_image((tmp_path / "deep.tiff").read_bytes())


# ---- fingerprints --------------------------------------------------------------------------------------------------


def write_other_images(folder: Path) -> None:
    """As many, of the same classes and sizes, but each turned over."""
    for file in folder.glob("*/*/*.png"):
        Image.open(file).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(file)


def write_other_parquet(folder: Path) -> None:
    rows = table("test")
    cells = [{"bytes": encoded(x[:, ::-1] // 2), "path": None} for x in pixels_and_labels("test")[0]]
    other = {"img": cells, "label": rows["label"][:]}
    datasets.Dataset.from_dict(other, rows.features).to_parquet(folder / "test-00000-of-00001.parquet")


CHANGES = {
    "images": (write_images, write_other_images, (small, photos)),
    "parquet": (write_parquet, write_other_parquet, READERS),
}


@pytest.mark.parametrize("form", CHANGES)
def test_a_fingerprint_tells_other_images_of_the_same_number(form, tmp_path):
    write, change, readers = CHANGES[form]
    (tmp_path / "one").mkdir()
    write(tmp_path / "one")
    shutil.copytree(tmp_path / "one", tmp_path / "moved")
    shutil.copytree(tmp_path / "one", tmp_path / "changed")
    change(tmp_path / "changed")
    for read in readers:
        one, moved, changed = (read(tmp_path / name).fingerprint for name in ("one", "moved", "changed"))
        assert one == moved and one != changed and len(one) >= 16, read
