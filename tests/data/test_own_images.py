"""Any folder of small images is trained on, and its tickets are judged as in the run: size, grey, mean, mirroring."""

import json
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file

import main_cifar
import utils.evaluate
import utils.superpose
from models import MODELS, build
from sparselearning.errors import UsageError
from tests.commands import run_command
from tests.scripts import end_of
from tests.test_superpose import Small
from tests.tiny import tiny_world
from utils.data.cifar import load_cifar

TRAIN, TEST, CLASSES = 48, 30, ("bag", "coat", "shoe")
RUN = ("--data", "clothes", "--model", "small", "--batch-size", "128", "--epochs", "4", "--sparse", "--density", "0.5",
       "--sup-tickets", "--cycle-epochs", "1", "--num-tickets", "2", "--save-tickets", "--bn", "recompute",
       "--seed", "3")  # fmt: skip


def grey_image(i: int) -> np.ndarray:
    """28 × 28 bytes that grow brighter with the class."""
    return np.random.default_rng(i).integers(40 * (i % 3), 140 + 40 * (i % 3), (28, 28), dtype=np.uint8)


@pytest.fixture(scope="module")
def clothes(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("own") / "clothes"
    for split, numbers in (("train", range(TRAIN)), ("val", range(TRAIN, TRAIN + TEST))):
        for i in numbers:
            place = folder / split / CLASSES[i % 3]
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(grey_image(i)).save(place / f"{i:03}.png")
    return folder


def own(folder: Path, limit: int | None = None, **look: Any) -> Any:
    return load_cifar("clothes", str(folder), "cpu", limit_train=limit, **look)


def stack(*numbers: int) -> np.ndarray:
    return np.stack([grey_image(i) for i in numbers])


# ---- images --------------------------------------------------------------------------------------------------------


def test_grey_becomes_three_channels_of_the_size_that_is_asked_for(clothes):
    data = own(clothes, image_size=28)
    assert (data.num_classes, len(data.train), len(data.test), data.train.side) == (3, TRAIN, TEST, 28)
    for channel in range(3):
        assert np.array_equal(data.train.images[:, 4:32, 4:32, channel], stack(*range(TRAIN)))
    assert data.train.labels.tolist() == [i % 3 for i in range(TRAIN)]
    assert data.train.epoch(0, 0).batch(0, 5)[0].shape == data.test.clean_batch(0, 5)[0].shape == (5, 3, 28, 28)


@pytest.mark.parametrize("side", [16, 32, 64])
def test_images_of_any_size_are_resized(side, clothes, tmp_path):
    for i, (split, shape) in enumerate((("train", (28, 28)), ("train", (50, 20)), ("test", (7, 9)))):
        (tmp_path / split / "any").mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((*shape, 3), 50 + i, np.uint8)).save(tmp_path / split / "any" / f"{i}.png")
    data = own(tmp_path, image_size=side)
    for i, images in enumerate((data.train.images[:1], data.train.images[1:], data.test.images)):
        assert images.shape == (1, side + 8, side + 8, 3)
        assert (images[0, 4:-4, 4:-4] == 50 + i).all() and images.sum() == side * side * 3 * (50 + i)
    expected = Image.fromarray(grey_image(0)).resize((side, side), Image.Resampling.BILINEAR)
    found = own(clothes, image_size=side).train.images[0, 4:-4, 4:-4, 0].numpy().astype(int)
    assert np.abs(found - np.asarray(expected, int)).max() <= 2  # torch and Pillow round in another order


def test_known_data_may_have_another_size_too(tmp_path):
    digits = load_cifar("digits", None, "cpu", limit_train=5, limit_test=5)
    large = load_cifar("digits", None, "cpu", limit_train=5, limit_test=5, image_size=64)
    assert large.train.side == 64 and torch.equal(large.train.mean, digits.train.mean)
    digit = tmp_path / "train/0/0.png"
    for i in range(10):
        for split in ("train", "test"):
            (tmp_path / split / str(i)).mkdir(parents=True)
            Image.new("RGB", (32, 32)).save(tmp_path / split / str(i) / "0.png")
    Image.new("RGB", (28, 28)).save(digit)
    with pytest.raises(UsageError, match="28×28 pixels, not 32×32"):  # it cannot be CIFAR-10
        load_cifar("cifar10", str(tmp_path), "cpu", image_size=28)


def test_mean_and_deviation_are_those_of_the_training_images(clothes):
    for limit in (None, 10):
        pixels = stack(*range(limit or TRAIN)) / 255
        data = own(clothes, limit, image_size=28)
        assert data.about["mean"] == pytest.approx([pixels.mean()] * 3, abs=5e-5)
        assert data.about["std"] == pytest.approx([pixels.std()] * 3, abs=5e-5)
        x = data.train.clean_batch(0, len(data.train))[0]
        assert x.mean((0, 2, 3)).abs().max() < 1e-3 and (x.std((0, 2, 3)) - 1).abs().max() < 1e-2
    given = own(clothes, mean=[0.1, 0.2, 0.3])
    assert given.train.mean.flatten().tolist() == pytest.approx([0.1, 0.2, 0.3])
    assert given.about["std"] == own(clothes).about["std"]


def test_a_channel_in_which_nothing_differs_stays_finite(tmp_path):
    for split in ("train", "test"):
        (tmp_path / split / "any").mkdir(parents=True)
        Image.new("RGB", (8, 8), (0, 9, 255)).save(tmp_path / split / "any" / "0.png")
    data = own(tmp_path)
    assert data.train.clean_batch(0, 1)[0].abs().max() < 0.1 and min(data.about["std"]) > 0


@pytest.mark.parametrize(("name", "flip", "mirrored"), [("clothes", None, True), ("clothes", "none", False),
                                                        ("digits", None, False), ("digits", "horizontal", True)])  # fmt: skip  # noqa: E501
def test_images_are_mirrored_as_asked(name, flip, mirrored, clothes):
    train = load_cifar(name, None if name == "digits" else str(clothes), "cpu", flip=flip).train
    assert any(bool(train.epoch(0, epoch).flips.any()) for epoch in range(3)) == mirrored


def test_vgg_averages_what_is_left_of_large_images_and_refuses_small_ones():
    model = build("vgg16", 10, 0.1, 64).eval()
    with torch.no_grad():
        features = model.features(torch.ones(1, 3, 64, 64))
        assert torch.allclose(model(torch.ones(1, 3, 64, 64)), model.classifier(features.mean((2, 3))), atol=1e-6)
    with pytest.raises(UsageError, match="vgg16 cannot take images of --image-size 28: use 32 or more"):
        build("vgg16", 10, 1.0, 28)


# ---- a run and its tickets -----------------------------------------------------------------------------------------


def main(folder: Path, *options: str) -> tuple[int, str, str]:
    with (
        tiny_world(),
        mock.patch.object(main_cifar, "load_cifar", load_cifar),
        mock.patch.dict(MODELS, small=Small),
    ):
        return end_of(main_cifar, "--output-dir", str(folder), *options)


@pytest.fixture(scope="module")
def finished(clothes, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "clothes"
    assert main(folder, *RUN, "--data-dir", str(clothes), "--flip", "none")[0] == 0
    return folder


def test_the_tickets_say_how_their_images_come(finished, clothes):
    with safe_open(finished / "ticket.safetensors", "pt") as file:
        header = file.metadata()
    mean, std = (" ".join(map(str, own(clothes).about[name])) for name in ("mean", "std"))
    said = [header[name] for name in ("data", "image_size", "mean", "std", "flip")]
    assert said == ["clothes", "32", mean, std, "none"] and "label_column" not in header


def test_the_tickets_are_judged_as_in_the_run(finished, clothes, tmp_path, capsys):
    summary = json.loads((finished / "summary.json").read_text())
    tickets = sorted(map(str, finished.glob("tickets/*")))
    words = ["--data-dir", str(clothes), "--json", str(tmp_path / "numbers.json"), "--tickets"]
    with mock.patch.dict(MODELS, small=Small):
        run_command(utils.evaluate.main, *words, *tickets, finished / "ticket.safetensors")
        judged = json.loads((tmp_path / "numbers.json").read_text())["tickets"]
        for found, metrics in zip(judged, [*summary["test"]["tickets"], summary["test"]["superposed"]], strict=True):
            assert {name: found[name] for name in metrics} == pytest.approx(metrics, rel=1e-4)
        output = tmp_path / "new.safetensors"
        run_command(utils.superpose.main, *words, *tickets, "--bn", "recompute", "--output", output)
    new, of_run = load_file(output), load_file(finished / "ticket.safetensors")
    assert all(torch.equal(new[name], tensor) for name, tensor in of_run.items())


def test_a_run_does_not_go_on_with_other_images(clothes, tmp_path):
    run = (*RUN, "--data-dir", str(clothes))
    assert main(tmp_path / "run", *run)[0] == 0
    (tmp_path / "run/summary.json").unlink()  # as if it had been cut after its last checkpoint
    (tmp_path / "other").mkdir()
    other = tmp_path / "other"
    for file in clothes.glob("*/*/*.png"):
        place = other / file.relative_to(clothes)
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.open(file).rotate(90).save(place)
    status, _, err = main(tmp_path / "run", *RUN, "--data-dir", str(other), "--resume", "auto")
    assert status == 2 and "fingerprint of the data" in err and err.count("\n") == 1
    assert main(tmp_path / "run", *run, "--resume", "auto")[0] == 0


def test_too_few_classes_are_warned_of(clothes, tmp_path):
    _, plan, _ = main(tmp_path / "run", *RUN, "--data-dir", str(clothes), "--limit-train", "2", "--dry-run",
                      "--batch-size", "2")  # fmt: skip
    assert "warning: only 2 of 3 classes are among the training images" in plan
    assert "classes are among" not in main(tmp_path / "run", *RUN, "--data-dir", str(clothes), "--dry-run")[1]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("--image-size 0", "--image-size 0 is not a positive number"),
        ("--mean 0.5 0.5 1.5", "--mean 0.5 0.5 1.5 is not in [0, 1]"),
        ("--std 0.5 0 0.5", "--std 0.5 0.0 0.5 is not in (0, 1]"),
        ("--mean 0.5", "expected 3 arguments"),
        ("--image-size 16 --model vgg16", "vgg16 cannot take images of --image-size 16"),
        ("--data-dir", "expected one argument"),
    ],
)
def test_options_that_mean_nothing_are_refused(options, says, clothes, tmp_path):
    words = (*RUN, "--data-dir", str(clothes), *options.split())
    status, out, err = main(tmp_path / "run", *words)
    assert (status, out, err.count("\n")) == (2, "", 1) and says in err
