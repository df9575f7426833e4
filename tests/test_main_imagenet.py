"""main_imagenet.py end to end on generated images."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

from tests.data.writers import NAMES, Content, encoded, write_images
from tests.outcomes import differences, outcome
from tests.tiny_imagenet import SUP, main


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes that differ in color, 44 images to train and 13 to test on."""
    pixels = np.random.default_rng(0).integers(0, 128, (57, 40, 48, 3), dtype=np.uint8)
    for i in range(57):
        pixels[i, :, :, i % 3] += 100
    examples = [(encoded(image, "jpeg"), i % 3) for i, image in enumerate(pixels)]
    content = Content(examples[:44], examples[44:], NAMES[:3], "val")
    return write_images(tmp_path_factory.mktemp("images"), content)


RUN = (*SUP, "--epochs", "6", "--cycle-epochs", "1", "--num-tickets", "2", "--update-frequency", "2")  # 3 steps each


@pytest.fixture(scope="module")
def straight(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("straight")
    status, _, err = main(folder, *RUN, "--workers", "0", "--output-dir", str(path))
    assert (status, err) == (0, "")
    return path


def test_a_run_ends_with_an_exact_ticket(straight: Path) -> None:
    summary = json.loads((straight / "summary.json").read_text())
    ticket = load_file(straight / "ticket.safetensors")
    nonzero = {name: int(ticket[name].count_nonzero()) for name in summary["nnz_per_layer"]}
    assert nonzero == summary["nnz_per_layer"]
    assert sum(nonzero.values()) == summary["nnz"] == round(0.1 * summary["maskable"])
    assert len(summary["test"]["tickets"]) == 2 and summary["test"]["superposed"]["accuracy"] > 0
    assert summary["epochs"] == 6 and summary["method"] == "granet"


@pytest.mark.parametrize("workers", ["0", "1"])
def test_a_run_that_is_cut_inside_an_epoch_ends_with_the_same_bits(
    folder: Path, straight: Path, tmp_path: Path, workers: str
) -> None:
    options = (*RUN, "--workers", workers, "--output-dir", str(tmp_path), "--resume", "auto")
    assert main(folder, *options, stop=5)[0] == 143
    assert main(folder, *options, stop=13)[0] == 143
    assert main(folder, *options)[0] == 0
    assert differences(outcome(straight), outcome(tmp_path)) == []


def test_eval_only_gives_the_numbers_of_the_summary(folder: Path, straight: Path) -> None:
    status, out, err = main(folder, "--eval-only", "--ticket", str(straight / "ticket.safetensors"), "--workers", "0")
    superposed = json.loads((straight / "summary.json").read_text())["test"]["superposed"]
    assert (status, err) == (0, "")
    assert dict(re.findall(r"(\w+) ([\d.]+)", out)) == {name: f"{value:.4f}" for name, value in superposed.items()}


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--eval-only",), "--ticket"),
        (("--ticket", "x"), "--eval-only"),
        (("--eval-only", "--ticket", "nowhere.safetensors"), "no ticket nowhere"),
        (("--limit-train", "9999"), "cannot take the first 9999"),
        (("--image-size", "0"), "--image-size 0 is not a positive number"),
        (("--workers", "-1"), "--workers -1 is not"),
    ],
)
def test_mistakes_end_in_one_line(folder: Path, tmp_path: Path, options: tuple[str, ...], says: str) -> None:
    status, _, err = main(folder, "--workers", "0", *options, "--output-dir", str(tmp_path / "run"))
    assert status == 2 and says in err and err.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_the_share_of_waiting_is_recorded(straight: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = EventAccumulator(str(straight))
    board.Reload()
    waits = [event.value for event in board.Scalars("train/share_of_time_without_data")]
    assert len(waits) == 6 and all(0 < wait < 1 for wait in waits)
