"""A run on one's own images, and its tickets, which are judged as in the run: by the same size, mean and deviation."""

import json
from pathlib import Path
from unittest import mock

import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file

import main_cifar
import utils.evaluate
import utils.superpose
from models import MODELS
from tests.commands import run_command
from tests.data.readers import small
from tests.data.writers import CLOTHES, write_images
from tests.scripts import end_of
from tests.tiny import NETWORKS, tiny_world
from utils.data.cifar import load_cifar

RUN = ("--data", "clothes", "--model", "norm", "--batch-size", "128", "--epochs", "4", "--sparse", "--density", "0.5",
       "--sup-tickets", "--cycle-epochs", "1", "--num-tickets", "2", "--save-tickets", "--bn", "recompute",
       "--seed", "3")  # fmt: skip


def main(folder: Path, *options: str) -> tuple[int, str, str]:
    with tiny_world(), mock.patch.object(main_cifar, "load_cifar", load_cifar):
        return end_of(main_cifar, "--output-dir", str(folder), *options)


@pytest.fixture(scope="module")
def clothes(tmp_path_factory) -> Path:
    return write_images(tmp_path_factory.mktemp("own") / "clothes", CLOTHES)


@pytest.fixture(scope="module")
def finished(clothes, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "clothes"
    assert main(folder, *RUN, "--data-dir", str(clothes), "--flip", "none")[0] == 0
    return folder


def test_the_tickets_say_how_their_images_come(finished, clothes):
    with safe_open(finished / "ticket.safetensors", "pt") as file:
        header = file.metadata()
    mean, std = (" ".join(map(str, small(clothes, "clothes").about[name])) for name in ("mean", "std"))
    said = [header[name] for name in ("data", "image_size", "mean", "std", "flip")]
    assert said == ["clothes", "32", mean, std, "none"] and "label_column" not in header


def test_the_tickets_are_judged_as_in_the_run(finished, clothes, tmp_path, capsys):
    summary = json.loads((finished / "summary.json").read_text())
    tickets = sorted(map(str, finished.glob("tickets/*")))
    words = ["--data-dir", str(clothes), "--json", str(tmp_path / "numbers.json"), "--tickets"]
    with mock.patch.dict(MODELS, NETWORKS):
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
