"""A batch of photographs depends on nothing but (seed, epoch, position); whatever is wrong with one is named."""

import io
import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import datasets
import numpy as np
import pytest
import torch
import torchvision.transforms.v2 as T
import torchvision.transforms.v2.functional as TF
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.stats import ks_2samp
from torch import Tensor

import utils.data.decoding as images
from sparselearning.errors import UsageError
from utils.data.augmentation import augment, center, generator, random_box
from utils.data.decoding import resize
from utils.data.formats.image_folder import ImageFolder
from utils.data.imagenet import load_imagenet
from utils.data.large_images import MEAN, STD, LargeImages
from utils.data.protocol import Splits
from utils.files.errors import DamagedImageError

CPU = torch.device("cpu")
CLASSES, TRAIN, TEST = ("ant", "bee", "cat"), 24, 9


def picture(i: int) -> Image.Image:
    """Noise of its own size and colour."""
    rng = np.random.default_rng(i)
    height, width = rng.integers(20, 70, 2)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))


def encoded(image: Image.Image, kind: str = "jpeg", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def pictures(split: str) -> list[tuple[bytes, int]]:
    start, count = (0, TRAIN) if split == "train" else (TRAIN, TEST)
    return [(encoded(picture(i), "png" if i % 3 else "jpeg"), i % 3) for i in range(start, start + count)]


def write_images(folder: Path, test: str = "val") -> Path:
    for split in ("train", test):
        for i, (content, label) in enumerate(pictures(split)):
            place = folder / split / CLASSES[label]
            place.mkdir(parents=True, exist_ok=True)
            (place / f"{i:03}.{'jpg' if content.startswith(images.JPEG) else 'png'}").write_bytes(content)
    return folder


def table(split: str) -> datasets.Dataset:
    contents, labels = zip(*pictures(split), strict=True)
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=list(CLASSES))})
    return datasets.Dataset.from_dict(
        {"image": [{"bytes": c, "path": None} for c in contents], "label": labels}, features
    )


def write_parquet(folder: Path) -> Path:
    for split, shards in (("train", 3), ("validation", 1)):
        for i in range(shards):
            place = folder / "data" / f"{split}-{i:05}-of-{shards:05}.parquet"
            table(split).shard(shards, i, contiguous=True).to_parquet(place)
    return folder


def write_saved(folder: Path) -> Path:
    datasets.DatasetDict({split: table(split) for split in ("train", "validation")}).save_to_disk(str(folder))
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("photos"))


@pytest.fixture(autouse=True)
def quiet_cache(tmp_path: Path) -> Iterator[None]:
    with mock.patch.object(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache"):
        yield


def load(folder: Path | str | None, **options: Any) -> Splits:
    options = {"data": "any", "image_size": 16, "batch_size": 4, "workers": 0, **options}
    return load_imagenet(options.pop("data"), folder and str(folder), CPU, **options)


def whole(batches: Iterator[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    images, labels = zip(*batches, strict=True)
    return torch.cat(images), torch.cat(labels)


def equal(a: tuple[Tensor, Tensor], b: tuple[Tensor, Tensor]) -> bool:
    return torch.equal(a[0], b[0]) and torch.equal(a[1], b[1])


# ---- an epoch ------------------------------------------------------------------------------------------------------


def test_an_epoch_is_a_function_of_seed_epoch_and_position(folder: Path) -> None:
    train = load(folder).train
    reference = train.epoch(3, 5).batch(0, TRAIN)
    assert len(train.epoch(3, 5)) == len(train) == TRAIN
    assert reference[0].shape == (TRAIN, 3, 16, 16) and reference[0].dtype == torch.float32
    assert reference[0].is_contiguous(memory_format=torch.channels_last)
    assert sorted(reference[1].tolist()) == sorted(i % 3 for i in range(TRAIN))
    assert equal(load(folder).train.epoch(3, 5).batch(0, TRAIN), reference)
    for other in ((3, 6), (4, 5), (-1, 0)):
        assert not torch.equal(train.epoch(*other).batch(0, TRAIN)[0], reference[0])


@pytest.mark.parametrize("cuts", [(0, 24), (0, 1, 2, 24), (0, 7, 7, 13, 20, 24), tuple(range(25))])
def test_any_cut_of_an_epoch_gives_the_same_samples(folder: Path, cuts: tuple[int, ...]) -> None:
    order = load(folder).train.epoch(0, 1)
    ranges = list(itertools.pairwise(cuts))
    assert equal(whole(order.batches(iter(ranges))), order.batch(0, TRAIN))
    later = [r for r in ranges if r[0] >= 7]  # what a resumed epoch asks for
    if later:
        assert equal(whole(order.batches(later)), order.batch(later[0][0], TRAIN))


def test_the_number_of_workers_changes_nothing(folder: Path) -> None:
    ranges = [(start, start + 4) for start in range(0, TRAIN, 4)]
    alone = load(folder)
    for workers in (1, 2):
        data = load(folder, workers=workers)
        state = torch.get_rng_state()
        for epoch in (0, 1):
            assert equal(whole(data.train.epoch(0, epoch).batches(ranges)), alone.train.epoch(0, epoch).batch(0, TRAIN))
        assert equal(whole(data.test.clean_batches([(0, 5), (5, TEST)])), alone.test.clean_batch(0, TEST))
        assert torch.equal(torch.get_rng_state(), state)  # dropout draws from it


def test_a_stream_that_was_left_may_be_followed_by_another(folder: Path) -> None:
    data, ranges = load(folder, workers=1).train, [(start, start + 2) for start in range(0, TRAIN, 2)]
    left = data.epoch(0, 0).batches(ranges)
    next(left)
    assert equal(whole(data.epoch(0, 1).batches(ranges)), data.epoch(0, 1).batch(0, TRAIN))
    with pytest.raises(AssertionError, match="another stream"):
        next(left)


# ---- transforms ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(40, 60), (300, 200), (17, 17), (1, 1), (1, 9), (500, 375)])
def test_crops_are_those_of_torchvision(shape: tuple[int, int]) -> None:
    pixels = torch.randint(256, (*shape, 3), dtype=torch.uint8)
    image = pixels.permute(2, 0, 1)
    for seed in range(8):
        top, left, height, width = box = random_box(*shape, generator(0, 0, seed))
        expected = TF.resized_crop(image, top, left, height, width, [32, 32], antialias=True)
        assert torch.equal(resize(pixels, box, 32, 32).permute(2, 0, 1), expected)
        cut = augment(pixels, 32, generator(0, 0, seed)).permute(2, 0, 1)
        assert torch.equal(cut, expected) or torch.equal(cut, expected.flip(-1))
    for side in (224, 64, 37):
        expected = T.Compose([T.Resize(int(side * 256 / 224), antialias=True), T.CenterCrop(side)])(image)
        assert torch.equal(center(pixels, side).permute(2, 0, 1), expected)


def test_centres_are_those_of_pillow_but_for_rounding() -> None:
    image = Image.fromarray(np.linspace(0, 255, 90 * 120 * 3).reshape(90, 120, 3).astype(np.uint8))
    expected = np.asarray(T.Compose([T.Resize(73), T.CenterCrop(64)])(image)).astype(int)
    own = center(torch.from_numpy(np.array(image)), 64).numpy().astype(int)
    assert np.abs(own - expected).max() <= 2


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 700), st.integers(1, 700), st.integers(0, 99))
def test_a_crop_lies_in_its_image(height: int, width: int, seed: int) -> None:
    top, left, h, w = random_box(height, width, generator(seed, 0, 0))
    assert 0 <= top <= top + h <= height and 0 <= left <= left + w <= width and h > 0 and w > 0


def test_boxes_are_spread_as_torchvision_spreads_them() -> None:
    """Areas, ratios and places, by a two-sample Kolmogorov-Smirnov test of each."""
    own = np.array([random_box(375, 500, generator(0, 0, i)) for i in range(4000)])
    torch.manual_seed(0)
    image = torch.empty(3, 375, 500)
    drawn = [T.RandomResizedCrop(8).make_params([image]) for _ in range(4000)]
    theirs = np.array([[params[side] for side in ("top", "left", "height", "width")] for params in drawn])
    measures = [boxes[:, 2] * boxes[:, 3] for boxes in (own, theirs)], [b[:, 3] / b[:, 2] for b in (own, theirs)]
    for ours, torchvisions in (*measures, *zip(own.T, theirs.T, strict=True)):
        assert ks_2samp(ours, torchvisions).pvalue > 1e-3


def test_half_of_the_images_are_flipped() -> None:
    ramp = torch.arange(64, dtype=torch.uint8).mul(4).view(1, 64, 1).expand(64, 64, 3)
    flips = [bool(cut[0, 0, 0] > cut[0, -1, 0]) for cut in (augment(ramp, 8, generator(0, 0, i)) for i in range(400))]
    assert 160 < sum(flips) < 240


def test_batches_are_normalised(folder: Path) -> None:
    data = load(folder).test
    pixels = data.samples[0, TEST, None][0].permute(0, 3, 1, 2)
    expected = TF.normalize(pixels / 255, list(MEAN), list(STD))
    assert torch.allclose(data.clean_batch(0, TEST)[0], expected, atol=1e-5)


# ---- images --------------------------------------------------------------------------------------------------------

RGB = Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8))
GREY16 = np.linspace(0, 65535, 600).reshape(20, 30).astype(np.uint16)


def turned(orientation: int) -> bytes:
    exif = RGB.getexif()
    exif[0x0112] = orientation
    return encoded(RGB, "png", exif=exif)


def grey(pixels: np.ndarray) -> np.ndarray:
    return np.repeat(pixels[:, :, None], 3, axis=2)


KINDS: dict[str, tuple[bytes, np.ndarray | None]] = {
    "png": (encoded(RGB, "png"), np.asarray(RGB)),
    "jpeg": (encoded(RGB), None),
    "grey jpeg": (encoded(RGB.convert("L")), None),
    "grey": (encoded(RGB.convert("L"), "png"), grey(np.asarray(RGB.convert("L")))),
    "cmyk jpeg": (encoded(RGB.convert("CMYK")), None),
    "palette": (encoded(RGB.quantize(16), "png"), np.asarray(RGB.quantize(16).convert("RGB"))),
    "alpha": (encoded(RGB.convert("RGBA"), "png"), np.asarray(RGB)),
    "grey alpha": (encoded(RGB.convert("LA"), "png"), grey(np.asarray(RGB.convert("L")))),
    "one bit": (encoded(RGB.convert("1"), "png"), grey(np.asarray(RGB.convert("1").convert("L")))),
    "16 bits": (encoded(Image.fromarray(GREY16), "png"), grey((GREY16 >> 8).astype(np.uint8))),
    "16 bit tiff": (encoded(Image.fromarray(GREY16), "tiff"), grey((GREY16 >> 8).astype(np.uint8))),
    "on its side": (turned(6), np.rot90(np.asarray(RGB), -1)),
    "upside down": (turned(3), np.asarray(RGB)[::-1, ::-1]),
    "webp": (encoded(RGB, "webp", lossless=True), np.asarray(RGB)),
    "one pixel": (encoded(RGB.crop((0, 0, 1, 1)), "png"), np.asarray(RGB)[:1, :1]),
    "one pixel jpeg": (encoded(RGB.crop((0, 0, 1, 1))), None),
}  # fmt: skip


def photo(path: Path, content: bytes) -> ImageFolder:
    path.write_bytes(content)
    return ImageFolder("here", torch.tensor([0]), ["any"], np.array([os.fsencode(path)]))


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_image_is_decoded_to_colours(tmp_path: Path, kind: str) -> None:
    content, expected = KINDS[kind]
    pixels = photo(tmp_path / "any.png", content).pixels(0)
    assert pixels.dtype == torch.uint8 and pixels.shape[2] == 3
    assert expected is None or np.array_equal(pixels.numpy(), expected)
    assert center(pixels, 16).shape == augment(pixels, 16, generator(0, 0, 0)).shape == (16, 16, 3)


@pytest.mark.skipif(images.decode_jpeg is None, reason="torchcodec is not installed")
@pytest.mark.parametrize("kind", [kind for kind in KINDS if "jpeg" in kind])
def test_both_decoders_read_the_same_bits(tmp_path: Path, kind: str) -> None:
    photos = photo(tmp_path / "any.jpg", KINDS[kind][0])
    fast = photos.pixels(0)
    with mock.patch.object(images, "decode_jpeg", None):
        assert torch.equal(photos.pixels(0), fast)


def with_codec(encoded: bytes) -> Tensor:
    """Stands for torchcodec: pixels in another order, and an error of its own."""
    try:
        with Image.open(io.BytesIO(encoded)) as image:
            return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)
    except OSError as error:
        raise RuntimeError("decode_rows failed") from error


@pytest.mark.parametrize("decoder", [None, with_codec])
@pytest.mark.parametrize(
    "content", [KINDS["jpeg"][0][:-200], KINDS["png"][0][:-500], b"no image", b"", None],
    ids=["jpg", "png", "text", "empty", "gone"],
)  # fmt: skip
def test_a_damaged_image_is_named(tmp_path: Path, content: bytes | None, decoder: Callable | None) -> None:
    photos = photo(tmp_path / "broken.jpg", content or b"")
    if content is None:
        (tmp_path / "broken.jpg").unlink()
    with mock.patch.object(images, "decode_jpeg", decoder), pytest.raises(DamagedImageError) as error:
        photos.pixels(0)
    assert str(tmp_path / "broken.jpg") in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_image_stops_a_run_in_one_line(tmp_path: Path, workers: int) -> None:
    write_images(tmp_path)
    broken = sorted((tmp_path / "train" / "bee").iterdir())[2]
    broken.write_bytes(broken.read_bytes()[:40])
    order = load(tmp_path, workers=workers).train.epoch(0, 0)
    with pytest.raises(UsageError, match=broken.name) as error:
        list(order.batches([(start, start + 4) for start in range(0, TRAIN, 4)]))
    assert "\n" not in str(error.value) and "Traceback" not in str(error.value)


def test_a_worker_that_dies_is_reported_with_a_remedy(folder: Path) -> None:
    data = load(folder, workers=1)
    with (
        mock.patch.object(ImageFolder, "pixels", lambda rows, row: os._exit(1)),
        pytest.raises(UsageError, match="--workers 0"),
    ):
        list(data.train.epoch(0, 0).batches([(0, 4)]))


# ---- sources -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("write", [write_parquet, write_saved])
def test_every_source_gives_the_same_samples(folder: Path, tmp_path: Path, write: Callable[[Path], Path]) -> None:
    images, tables = load(folder), load(write(tmp_path / "data"), workers=1)
    assert tables.num_classes == images.num_classes == 3
    assert equal(whole(tables.train.epoch(0, 0).batches([(0, TRAIN)])), images.train.epoch(0, 0).batch(0, TRAIN))
    assert equal(tables.test.clean_batch(0, TEST), images.test.clean_batch(0, TEST))


def test_the_first_images_of_a_folder_are_of_all_classes(folder: Path) -> None:
    data = load(folder, limit_train=7, limit_test=3)
    assert data.train.clean_batch(0, 7)[1].tolist() == [0, 1, 2, 0, 1, 2, 0]
    assert (len(data.train), len(data.test), data.num_classes) == (7, 3, 3)


def test_held_out_images_are_not_trained_on_whatever_the_seed(folder: Path) -> None:
    data = load(folder, valid_fraction=0.25)
    assert isinstance(data.valid, LargeImages) and (len(data.train), len(data.valid)) == (18, 6)
    rows = np.concatenate([data.train.samples.index, data.valid.samples.index])
    assert sorted(rows) == list(range(TRAIN))
    other = load(folder, valid_fraction=0.25).valid
    assert isinstance(other, LargeImages) and np.array_equal(other.samples.index, data.valid.samples.index)


def empty_class(folder: Path) -> None:
    (folder / "train" / "dog").mkdir()


def other_classes(folder: Path) -> None:
    (folder / "val" / "ant").rename(folder / "val" / "ape")


def no_test(folder: Path) -> None:
    (folder / "val").rename(folder / "more")


def no_classes(folder: Path) -> None:
    for place in (folder / "train").iterdir():
        place.rename(folder / place.name)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [(empty_class, "dog"), (other_classes, "ant in only one"), (no_test, "no split val"), (no_classes, "any class")],
)  # fmt: skip
def test_a_folder_that_is_wrong_is_refused(tmp_path: Path, spoil: Callable[[Path], None], says: str) -> None:
    spoil(write_images(tmp_path))
    with pytest.raises(UsageError, match=says) as error:
        load(tmp_path)
    assert "\n" not in str(error.value)


def test_tables_that_are_wrong_are_refused(tmp_path: Path) -> None:
    write_parquet(tmp_path / "a")
    (tmp_path / "a/data/train-00001-of-00003.parquet").unlink()
    with pytest.raises(UsageError, match="2 of 3 train files"):
        load(tmp_path / "a")
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")})
    rows = {"image": [{"bytes": b"", "path": None}] * 2, "label": [0, -1]}
    secret = datasets.Dataset.from_dict(rows, features)
    datasets.DatasetDict(train=secret, test=secret).save_to_disk(str(tmp_path / "b"))
    with pytest.raises(UsageError, match=r"row 1 of the train split .* has label -1"):
        load(tmp_path / "b")
    datasets.DatasetDict(train=table("train")).save_to_disk(str(tmp_path / "c"))
    with pytest.raises(UsageError, match="no split val"):
        load(tmp_path / "c")


def test_without_data_the_error_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no folder"):
        load(tmp_path / "nowhere")
    with (
        mock.patch.object(datasets, "load_dataset", side_effect=ConnectionError("Couldn't reach it\nat all")),
        pytest.raises(UsageError, match=r"ILSVRC/imagenet-1k.*hf auth login.*--data-dir") as error,
    ):
        load(None, data="ILSVRC/imagenet-1k")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("options", [{"limit_train": 0}, {"limit_test": 10}, {"valid_fraction": 0.01}])
def test_options_that_leave_nothing_are_refused(folder: Path, options: dict[str, Any]) -> None:
    with pytest.raises(UsageError) as error:
        load(folder, **options)
    assert "\n" not in str(error.value)
