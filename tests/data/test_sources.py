"""Every form gives the same images, whatever its splits and its folder are called; a fingerprint tells others."""

import shutil
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from PIL import Image

from tests.data.readers import READERS, equal, every_reader, large, refused, small, stream, whole
from tests.data.writers import (
    LARGE,
    SMALL,
    encoded,
    pixels_and_labels,
    publish,
    table,
    write_binary,
    write_binary_inside,
    write_images,
    write_nested,
    write_parquet,
    write_plain_parquet,
    write_saved,
)

FORMS = [
    write_parquet,
    write_nested,
    write_plain_parquet,
    write_images,
    write_saved,
    write_binary,
    write_binary_inside,
]


@pytest.mark.parametrize("write", FORMS)
def test_every_form_gives_the_same_tensors(write, tmp_path, monkeypatch, capfd):
    write(tmp_path)
    publish(tmp_path, monkeypatch)
    capfd.readouterr()
    splits = small(tmp_path)
    assert capfd.readouterr() == ("", "")  # no progress bar outside a terminal
    assert splits.valid is None and splits.num_classes == 10
    for images, split in ((splits.train, "train"), (splits.test, "test")):
        pixels, labels = pixels_and_labels(split)
        assert images.images.dtype == torch.uint8 and images.images.shape[1:] == (40, 40, 3)
        assert np.array_equal(images.images[:, 4:36, 4:36].numpy(), pixels)
        assert images.images.sum() == pixels.sum(dtype=np.int64)  # the padding is zero
        assert images.labels.tolist() == labels and images.labels.dtype == torch.int64


@pytest.mark.parametrize("write", [write_parquet, write_saved])
def test_every_source_gives_the_same_samples(write, tmp_path):
    for name in ("images", "tables"):
        (tmp_path / name).mkdir()
    images, tables = large(write_images(tmp_path / "images", LARGE)), large(write(tmp_path / "tables", LARGE))
    assert tables.num_classes == images.num_classes == 3
    assert equal(whole(tables.train.epoch(0, 0).batches([(0, 24)])), images.train.epoch(0, 0).batch(0, 24))
    assert equal(tables.test.clean_batch(0, 9), images.test.clean_batch(0, 9))


@pytest.mark.parametrize("read", [small, large])
def test_a_limit_takes_classes_in_turns(read, tmp_path):
    write_images(tmp_path)
    (tmp_path / "train/class2/022.png").write_bytes((tmp_path / "train/class2/002.png").read_bytes())
    assert read(tmp_path, limit_train=13).train.labels.tolist() == [*range(10), 0, 1, 2]
    assert read(tmp_path).train.labels.tolist() == [*range(10), *range(10), 2]


# ---- the Hub -------------------------------------------------------------------------------------------------------


def test_the_hub_is_read_like_a_folder(monkeypatch):
    tables = datasets.DatasetDict({split: table(examples) for split, examples in SMALL.splits()})
    monkeypatch.setattr(datasets, "load_dataset", lambda name, config: tables)
    assert small(None).train.labels.tolist() == pixels_and_labels("train")[1]


@pytest.mark.parametrize("error", [ConnectionError("no route\nmore"), OSError("disk"), RuntimeError("404"), KeyError()])
def test_an_unreachable_hub_is_named(error, monkeypatch):
    def load_dataset(name, config):
        assert name == "uoft-cs/cifar100"
        raise error

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    refused("cannot get uoft-cs/cifar100 from the Hub: .*; give --data-dir FOLDER", small, None, "cifar100")


def test_offline_is_named(monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    refused("cannot get uoft-cs/cifar10 from the Hub: .*; give --data-dir FOLDER", small, None)


@pytest.mark.parametrize(("read", "call"), [(large, "load_dataset"), (stream, "load_dataset_builder")])
def test_without_data_the_error_says_how_to_get_it(read, call, tmp_path, monkeypatch):
    def fail(*names):
        raise ConnectionError("Couldn't reach it\nat all")

    monkeypatch.setattr(datasets, call, fail)
    refused(r"ILSVRC/imagenet-1k.*hf auth login.*--data-dir", read, None, data="ILSVRC/imagenet-1k")
    refused("no folder", read, tmp_path / "nowhere")


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
            table(SMALL.train).to_parquet(folder / "train-more.parquet")
            for file in folder.glob("train-0*"):
                file.rename(folder / file.name.replace("-of-", "_"))
    assert len(read(tmp_path / name).train) == 20


@pytest.mark.parametrize("read", [small, large])
@pytest.mark.parametrize("write", [write_saved, write_images])
def test_other_forms_in_a_folder_that_looks_like_a_pattern(read, write, tmp_path):
    folder = tmp_path / "a[b]*"
    folder.mkdir()
    write(folder)
    assert len(read(folder).train) == 20


# ---- fingerprints --------------------------------------------------------------------------------------------------


def write_other_images(folder: Path) -> None:
    """As many, of the same classes and sizes, but each turned over."""
    for file in folder.glob("*/*/*.png"):
        Image.open(file).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(file)


def write_other_parquet(folder: Path) -> None:
    pixels, labels = pixels_and_labels("test")
    other = [(encoded(x[:, ::-1] // 2), label) for x, label in zip(pixels, labels, strict=True)]
    table(other).to_parquet(folder / "test-00000-of-00001.parquet")


CHANGES = {
    "images": (write_images, write_other_images, (small, large)),
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
