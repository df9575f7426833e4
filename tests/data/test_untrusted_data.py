"""Data that somebody else made: no link, path or pipe leads out of it, and nothing in it is executed."""

import os
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from torchvision.datasets import CIFAR10

import utils.data.formats.cifar_files
from tests.data.readers import large, refused, small
from tests.data.writers import (
    NAMES,
    encoded,
    pixels_and_labels,
    publish,
    write_binary,
    write_images,
    write_parquet,
    write_saved,
)
from utils.data.formats.image_folder import class_folders
from utils.data.protocol import Splits

# ---- links ---------------------------------------------------------------------------------------------------------


def images_of(split: Path) -> list[str]:
    return sorted(os.fsdecode(path).removeprefix(f"{split}/") for path in class_folders(split)[0])


def test_links_that_run_in_circles_add_no_image(tmp_path):
    write_images(tmp_path)
    split = tmp_path / "train"
    before = images_of(split)
    assert len(before) == 20
    for i, target in enumerate((".", "..", "../..", "../class1", "../../train/class2", tmp_path)):
        (split / "class0" / f"loop{i}").symlink_to(target)
    (split / "class1" / "back").symlink_to(split / "class0")
    assert images_of(split) == before
    assert small(tmp_path).train.labels.bincount().tolist() == [2] * 10


def test_links_to_folders_elsewhere_are_followed_once(tmp_path):
    write_images(tmp_path / "data")
    split = tmp_path / "data/train"
    (split / "class3").rename(tmp_path / "three")
    (split / "class3").symlink_to(tmp_path / "three")
    (tmp_path / "more").mkdir()
    Image.new("RGB", (32, 32)).save(tmp_path / "more/new.png")
    for name in ("one", "two"):
        (split / "class4" / name).symlink_to(tmp_path / "more")
    assert [path for path in images_of(split) if "class3" in path] == ["class3/003.png", "class3/013.png"]
    assert [path for path in images_of(split) if "new" in path] == ["class4/two/new.png"]


# ---- pipes and paths -----------------------------------------------------------------------------------------------


def pipe_in_place_of(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


def zero_in_place_of(file: Path) -> None:
    file.unlink()
    file.symlink_to("/dev/zero")


@pytest.mark.parametrize("spoil", [pipe_in_place_of, zero_in_place_of])
def test_what_is_no_file_is_refused_and_not_waited_for(spoil, tmp_path, monkeypatch):
    for write, pattern, says in (
        (write_images, "train/class0/000.png", "000.png is not a readable image: it is a pipe or a device"),
        (write_parquet, "test-*.parquet", "parquet is no file that can be read"),
        (write_saved, "train/*.arrow", "arrow is no file that can be read"),
        (write_binary, "data_batch_3", "cannot read the CIFAR files .* pipe or a device"),
    ):
        folder = tmp_path / write.__name__
        folder.mkdir()
        write(folder)
        publish(folder, monkeypatch)
        spoil(next(folder.glob(pattern)))
        refused(says, small, folder)


def write_paths(folder: Path, paths: list[str]) -> Path:
    """Rows that name their images instead of holding them."""
    folder.mkdir(exist_ok=True)
    features = datasets.Features({"image": datasets.Image(decode=False), "label": datasets.ClassLabel(names=NAMES)})
    cells = pa.array([{"bytes": None, "path": path} for path in paths], features["image"].pa_type)
    rows = pa.table({"image": cells, "label": pa.array([0] * len(paths), pa.int64())})
    for split in ("train", "test"):
        pq.write_table(rows.replace_schema_metadata(features.arrow_schema.metadata), folder / f"{split}.parquet")
    return folder


def read_all(read: Callable[[Path], Splits], folder: Path) -> Splits:
    data = read(folder)
    data.train.clean_batch(0, len(data.train))
    return data


@pytest.mark.parametrize("read", [small, large])
def test_a_row_names_no_file_outside_of_its_folder(read, tmp_path):
    pixels = pixels_and_labels("train")[0]
    for i, place in enumerate(("in/one.png", "in/deep/two.png", "secret.png")):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).write_bytes(encoded(pixels[i]))
    (tmp_path / "in/link.png").symlink_to(tmp_path / "secret.png")
    write_paths(tmp_path / "in", ["one.png", "deep/two.png", "deep/../one.png", str(tmp_path / "in/one.png")])
    images = read_all(read, tmp_path / "in").train.clean_batch(0, 4)[0]
    assert images[0].equal(images[2]) and images[0].equal(images[3]) and not images[0].equal(images[1])
    for path in ("../secret.png", str(tmp_path / "secret.png"), "link.png", "deep/../../secret.png"):
        write_paths(tmp_path / "in", [path])
        refused("row 0 of .* not a readable image: it names .*, which is not in .*/in; copy", read_all, read,
                       tmp_path / "in")  # fmt: skip


# ---- damage and harm -----------------------------------------------------------------------------------------------

EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 32 32\n%%EndComments\n0 0 32 32 rectfill\nshowpage\n%%EOF\n"


@pytest.mark.parametrize("read", [small, large])
def test_no_program_is_started_to_decode_an_image(read, tmp_path):
    write_images(tmp_path)
    (tmp_path / "train/class0/000.png").write_bytes(EPS)
    with mock.patch("PIL.EpsImagePlugin.Ghostscript", side_effect=AssertionError("started Ghostscript")) as program:
        refused("000.png is not a readable image: it is no image", read_all, read, tmp_path)
        assert not program.called


def test_what_is_unpickled_is_what_was_checked(tmp_path, monkeypatch):
    """A file that is exchanged as soon as it was read once is not looked at again."""
    write_binary(tmp_path)
    publish(tmp_path, monkeypatch)
    original = utils.data.formats.cifar_files.read_whole

    def read_and_exchange(path: Path) -> bytes:
        content = original(path)
        Path(path).write_bytes(b"harm")
        return content

    monkeypatch.setattr(utils.data.formats.cifar_files, "read_whole", read_and_exchange)
    monkeypatch.setattr(CIFAR10, "__init__", None)  # which would read twice
    assert small(tmp_path).train.labels.tolist() == pixels_and_labels("train")[1]
    assert (tmp_path / "test_batch").read_bytes() == b"harm"
