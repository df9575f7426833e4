"""Every form of CIFAR gives the same tensors, every mistake is named, and an epoch depends on nothing but its key."""

import hashlib
import io
import pickle
from dataclasses import replace
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import torchvision.transforms.functional as TF
from PIL import Image
from torchvision.datasets import CIFAR10

from sparselearning.errors import UsageError
from utils.data.cifar import load_cifar
from utils.data.recipes import RECIPES
from utils.data.small_images import SmallImages

REAL = Path(__file__).parents[3] / "shared" / "data" / "cifar10"
NAMES = [f"class{i}" for i in range(10)]
TRAIN, TEST = 20, 10


def pixels_and_labels(split: str) -> tuple[np.ndarray, list[int]]:
    """Ten classes in turns, as images in folders are listed."""
    n = TRAIN if split == "train" else TEST
    pixels = np.random.default_rng(n).integers(0, 256, (n, 32, 32, 3), dtype=np.uint8)
    return pixels, [i % 10 for i in range(n)]


def encoded(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "png")
    return buffer.getvalue()


def table(split: str, names: list[str] | None = NAMES) -> datasets.Dataset:
    pixels, labels = pixels_and_labels(split)
    label = datasets.ClassLabel(names=names) if names else datasets.Value("int64")
    rows = {"img": [{"bytes": encoded(x), "path": None} for x in pixels], "label": labels}
    return datasets.Dataset.from_dict(rows, datasets.Features({"img": datasets.Image(), "label": label}))


def write_parquet(folder: Path) -> None:
    for split, shards in (("train", 3), ("test", 1)):
        for i in range(shards):
            table(split).shard(shards, i, contiguous=True).to_parquet(folder / f"{split}-{i:05}-of-{shards:05}.parquet")


def write_nested(folder: Path) -> None:
    (folder / "plain_text").mkdir()
    write_parquet(folder / "plain_text")


def write_plain_parquet(folder: Path) -> None:
    """As pyarrow or pandas writes it: no features, a struct and an integer."""
    for split in ("train", "test"):
        pixels, labels = pixels_and_labels(split)
        rows = pa.table({"row": list(map(str, labels)), "image": [{"bytes": encoded(x)} for x in pixels], "y": labels})
        (folder / split).mkdir()
        pq.write_table(rows, folder / split / "0000.parquet")


def write_images(folder: Path) -> None:
    for split in ("train", "test"):
        for i, (x, label) in enumerate(zip(*pixels_and_labels(split), strict=True)):
            (folder / split / NAMES[label]).mkdir(parents=True, exist_ok=True)
            Image.fromarray(x).save(folder / split / NAMES[label] / f"{i:03}.png")


def write_saved(folder: Path) -> None:
    datasets.DatasetDict({split: table(split) for split in ("train", "test")}).save_to_disk(str(folder))


def write_binary(folder: Path) -> None:
    """cifar-10-batches-py: rows of 3072 bytes, channel by channel."""
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": NAMES}))
    pixels, labels = pixels_and_labels("train")
    chunks = [(f"data_batch_{i + 1}", pixels[4 * i : 4 * i + 4], labels[4 * i : 4 * i + 4]) for i in range(5)]
    for file, x, y in [*chunks, ("test_batch", *pixels_and_labels("test"))]:
        rows = {"data": x.transpose(0, 3, 1, 2).reshape(len(x), -1), "labels": list(y)}
        (folder / file).write_bytes(pickle.dumps(rows))


def write_binary_inside(folder: Path) -> None:
    (folder / "cifar-10-batches-py").mkdir()
    write_binary(folder / "cifar-10-batches-py")


def publish(folder: Path, monkeypatch) -> None:
    """The tiny binary files cannot have the digests of the real ones: those that they have are the published ones."""
    files = {file.name: hashlib.md5(file.read_bytes()).hexdigest() for file in folder.rglob("*") if file.is_file()}
    for part in ("train_list", "test_list"):
        monkeypatch.setattr(CIFAR10, part, [(name, files.get(name, md5)) for name, md5 in getattr(CIFAR10, part)])
    monkeypatch.setattr(CIFAR10, "meta", {**CIFAR10.meta, "md5": files.get("batches.meta", "none")})


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
    splits = load_cifar("cifar10", str(tmp_path), "cpu")
    assert capfd.readouterr() == ("", "")  # no progress bar outside a terminal
    assert splits.valid is None and splits.num_classes == 10
    for split in ("train", "test"):
        images: SmallImages = getattr(splits, split)
        pixels, labels = pixels_and_labels(split)
        assert images.images.dtype == torch.uint8 and images.images.shape[1:] == (40, 40, 3)
        assert np.array_equal(images.images[:, 4:36, 4:36].numpy(), pixels)
        assert images.images.sum() == pixels.sum(dtype=np.int64)  # the rim is zero
        assert images.labels.tolist() == labels and images.labels.dtype == torch.int64


def test_cifar100_takes_the_fine_labels(tmp_path):
    fine = datasets.ClassLabel(num_classes=100)
    for split in ("train", "test"):
        rows = table(split).rename_column("label", "coarse_label").cast_column("coarse_label", datasets.Value("int64"))
        rows = rows.cast_column("coarse_label", datasets.ClassLabel(num_classes=20))
        rows.add_column("fine_label", [99 - i for i in range(len(rows))], feature=fine).to_parquet(
            tmp_path / f"{split}.parquet"
        )
    train = load_cifar("cifar100", str(tmp_path), "cpu").train
    assert train.labels.tolist() == list(range(99, 99 - TRAIN, -1)) and train.num_classes == 100


# --- mistakes -------------------------------------------------------------------------------------------------------


def no_folder(folder: Path) -> None:
    folder.rmdir()


def nothing(folder: Path) -> None:
    pass


def no_test_parquet(folder: Path) -> None:
    table("train").to_parquet(folder / "train.parquet")


def no_test_images(folder: Path) -> None:
    write_images(folder)
    (folder / "test").rename(folder / "more")


def missing_shard(folder: Path) -> None:
    write_parquet(folder)
    (folder / "train-00001-of-00003.parquet").unlink()


def corrupt_parquet(folder: Path) -> None:
    write_parquet(folder)
    (folder / "train-00001-of-00003.parquet").write_bytes(b"version https://git-lfs.github.com/spec/v1")


def other_schema(folder: Path) -> None:
    write_parquet(folder)
    table("train", None).to_parquet(folder / "train-00001-of-00003.parquet")


def corrupt_saved(folder: Path) -> None:
    write_saved(folder)
    next((folder / "train").glob("*.arrow")).write_bytes(b"no arrow")


def corrupt_image(folder: Path) -> None:
    write_images(folder)
    file = folder / "train" / "class3" / "003.png"
    file.write_bytes(file.read_bytes()[:500])


def no_image_in_a_row(folder: Path) -> None:
    write_parquet(folder)
    rows = pq.read_table(folder / "test-00000-of-00001.parquet").to_pylist()
    rows[7]["img"] = None
    pq.write_table(pa.Table.from_pylist(rows), folder / "test-00000-of-00001.parquet")


def large_image(folder: Path) -> None:
    write_images(folder)
    Image.new("RGB", (96, 64)).save(folder / "test" / "class0" / "000.png")


def eleven_classes(folder: Path) -> None:
    for split in ("train", "test"):
        table(split, [*NAMES, "other"]).to_parquet(folder / f"{split}.parquet")


def label_outside(folder: Path) -> None:
    write_plain_parquet(folder)
    rows = pq.read_table(folder / "train" / "0000.parquet").to_pylist()
    rows[5]["y"] = 10
    pq.write_table(pa.Table.from_pylist(rows), folder / "train" / "0000.parquet")


def label_missing(folder: Path) -> None:
    write_plain_parquet(folder)
    rows = pq.read_table(folder / "train" / "0000.parquet").to_pylist()
    rows[5]["y"] = None
    pq.write_table(pa.Table.from_pylist(rows), folder / "train" / "0000.parquet")


def no_labels(folder: Path) -> None:
    for split in ("train", "test"):
        table(split).remove_columns("label").to_parquet(folder / f"{split}.parquet")


def other_classes_in_test(folder: Path) -> None:
    write_images(folder)
    (folder / "test" / "class4").rename(folder / "test" / "a cat")


def empty_class(folder: Path) -> None:
    write_images(folder)
    (folder / "train" / "class3" / "003.png").unlink()
    (folder / "train" / "class3" / "013.png").unlink()


def wrong_md5(folder: Path) -> None:
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


def assert_refused(match: str, *arguments, **options) -> None:
    with pytest.raises(UsageError, match=match) as caught:
        load_cifar(*arguments, "cpu", **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("make", MISTAKES)
def test_a_wrong_folder_is_named(make, tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    make(folder)
    assert_refused(MISTAKES[make], "cifar10", str(folder))


def test_wrong_arguments_are_named(tmp_path):
    write_images(tmp_path)
    folder = str(tmp_path)
    assert_refused("unknown --data mnist: choose from cifar10, cifar100, .*digits, or give", "mnist", None)
    assert_refused("leave out --data-dir", "digits", folder)
    assert_refused("has 10 classes, not 100: check --data ", "cifar100", folder)
    assert_refused("first 21 of the train split .*: give 1 to 20", "cifar10", folder, limit_train=TRAIN + 1)
    assert_refused("first 0 of the test split .*: give 1 to 10", "cifar10", folder, limit_test=0)
    for fraction in (-0.1, 1.0, float("nan")):
        assert_refused(r"is not in \[0, 1\)", "cifar10", folder, valid_fraction=fraction)
    for fraction in (0.001, 0.999):
        assert_refused("of 20 images leaves a set empty", "cifar10", folder, valid_fraction=fraction)


@pytest.mark.parametrize("error", [ConnectionError("no route\nmore"), OSError("disk"), RuntimeError("404"), KeyError()])
def test_an_unreachable_hub_is_named(error, monkeypatch):
    def load_dataset(name, config):
        assert name == "uoft-cs/cifar100"
        raise error

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert_refused("cannot get uoft-cs/cifar100 from the Hub: .*; give --data-dir FOLDER", "cifar100", None)


def test_offline_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    assert_refused("cannot get uoft-cs/cifar10 from the Hub: .*; give --data-dir FOLDER", "cifar10", None)


def test_the_hub_is_read_like_a_folder(monkeypatch):
    tables = datasets.DatasetDict({split: table(split) for split in ("train", "test")})
    monkeypatch.setattr(datasets, "load_dataset", lambda name, config: tables)
    assert load_cifar("cifar10", None, "cpu").train.labels.tolist() == pixels_and_labels("train")[1]


# --- epochs ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def train(tmp_path) -> SmallImages:
    write_saved(tmp_path)
    return load_cifar("cifar10", str(tmp_path), "cpu").train


@pytest.fixture(scope="module")
def digits():
    return load_cifar("digits", None, "cpu")


def test_crop_and_flip_are_torchvisions(train):
    pixels, labels = pixels_and_labels("train")
    plan = train.epoch(seed=3, epoch=1)
    x, y = plan.batch(0, TRAIN)
    assert x.is_contiguous(memory_format=torch.channels_last) and x.dtype == torch.float32
    for i, sample in enumerate(plan.order.tolist()):
        expected = TF.crop(TF.pad(TF.to_tensor(pixels[sample]), [4]), *plan.offsets[i].tolist(), 32, 32)
        expected = TF.hflip(expected) if plan.flips[i] else expected
        expected = TF.normalize(expected, RECIPES["cifar10"].mean, RECIPES["cifar10"].std)
        torch.testing.assert_close(x[i], expected)
        assert y[i] == labels[sample]
    assert 0 < plan.flips.sum() < TRAIN


def test_clean_batches_are_the_stored_images(train):
    pixels, labels = pixels_and_labels("train")
    x, y = train.clean_batch(15, 40)  # the last batch is what is left
    assert x.shape == (5, 3, 32, 32) and x.is_contiguous(memory_format=torch.channels_last)
    expected = TF.normalize(TF.to_tensor(pixels[17]), RECIPES["cifar10"].mean, RECIPES["cifar10"].std)
    torch.testing.assert_close(x[2], expected)
    assert y.tolist() == labels[15:]
    first, _ = train.clean_batch(0, 15)
    assert np.array_equal(train.images[:, 4:36, 4:36], pixels), "normalising must not write into the stored bytes"
    assert len(first) == 15


def same(a, b) -> bool:
    return all(torch.equal(getattr(a, part), getattr(b, part)) for part in ("order", "offsets", "flips"))


def test_an_epoch_is_a_function_of_seed_and_epoch(digits):
    images = digits.train
    torch.manual_seed(1)
    plan = images.epoch(0, 5)
    torch.manual_seed(2)
    assert same(plan, images.epoch(0, 5))
    for other in ((0, 6), (1, 5), (5, 0), (2**32, 5), (-1, 5)):
        assert not same(plan, images.epoch(*other))
    assert plan.order.sort().values.tolist() == list(range(len(images))) and len(plan) == len(images)


def test_any_cut_of_a_batch_gives_the_same_samples(digits):
    plan = digits.train.epoch(0, 0)
    whole = plan.batch(100, 164)
    for middle in (100, 101, 132, 164):
        parts = [plan.batch(100, middle), plan.batch(middle, 164)]
        assert torch.equal(torch.cat([x for x, _ in parts]), whole[0])
        assert torch.equal(torch.cat([y for _, y in parts]), whole[1])


def test_every_offset_occurs_and_half_are_flipped(digits):
    plan = replace(digits.train, shift=4, flip=True).epoch(0, 0)
    assert plan.offsets.unique().tolist() == list(range(9))
    assert 0.45 < plan.flips.float().mean() < 0.55


def test_digits_shift_little_and_never_flip(digits):
    for epoch in range(5):
        plan = digits.train.epoch(0, epoch)
        assert not plan.flips.any()
        assert plan.offsets.unique().tolist() == [2, 3, 4, 5, 6]


def test_digits_are_one_fixed_stratified_split(digits):
    again = load_cifar("digits", None, "cpu")
    assert torch.equal(again.test.images, digits.test.images) and len(digits.test) == 360
    assert len(digits.train) == 1437
    assert digits.test.labels.bincount().min() >= 34
    pixels = digits.train.images[:, 4:36, 4:36].double() / 255
    assert torch.equal(pixels[..., 0], pixels[..., 2])
    assert pixels.mean().item() == pytest.approx(RECIPES["digits"].mean[0], abs=1e-4)
    assert pixels.std().item() == pytest.approx(RECIPES["digits"].std[0], abs=1e-4)


def test_validation_is_held_out_after_the_limit_and_clean(digits):
    splits = load_cifar("digits", None, "cpu", limit_train=100, limit_test=50, valid_fraction=0.2)
    assert (len(splits.train), len(splits.valid), len(splits.test)) == (80, 20, 50)

    def rows(images: torch.Tensor) -> set[bytes]:
        return {image.numpy().tobytes() for image in images}

    assert rows(splits.train.images) | rows(splits.valid.images) == rows(digits.train.images[:100])
    assert not rows(splits.train.images) & rows(splits.valid.images)
    x, _ = splits.valid.epoch(0, 0).batch(0, 20)
    clean, _ = splits.valid.clean_batch(0, 20)
    assert torch.equal(x, clean[splits.valid.epoch(0, 0).order])
    torch.manual_seed(1)
    again = load_cifar("digits", None, "cpu", limit_train=100, valid_fraction=0.2)
    assert torch.equal(again.valid.images, splits.valid.images)  # the same for every run, whatever its seed
    assert rows(splits.valid.images) != rows(digits.train.images[:20])


@pytest.mark.skipif(not REAL.is_dir(), reason="no local copy of CIFAR-10")
def test_the_real_cifar10():
    splits = load_cifar("cifar10", str(REAL), "cpu", limit_train=2000, limit_test=500)
    assert (len(splits.train), len(splits.test)) == (2000, 500)
    x, y = splits.train.clean_batch(0, 2000)
    assert x.mean((0, 2, 3)).abs().max() < 0.05 and (x.std((0, 2, 3)) - 1).abs().max() < 0.05
    assert y.bincount(minlength=10).min() > 150
