"""Sizes, paths and an environment of which nothing can be made: one line, before anything is made."""

import os

import pytest

from sparselearning.errors import UsageError
from sparselearning.phases import normal_phase, sup_tickets
from tests.tiny import SPARSE, load_images, main
from utils.command_line.options import CifarOptions, ImageNetOptions
from utils.command_line.parser import parse
from utils.data.protocol import Splits
from utils.reporting.summary import plan_table

HUGE = 10**9


@pytest.mark.parametrize(
    "words",
    [f"--epochs {HUGE}", f"--ensemble {HUGE}", f"--width {HUGE}", f"--batch-size {10**15}", "--lr 1e308",
     f"--sparse --sup-tickets --num-tickets {HUGE}", f"--sparse --edst --refine-epochs {HUGE}", "--weight-decay 1e300",
     f"--gradient-accumulation-steps {HUGE}", "--distill T --temperature 1e308", f"--limit-train {10**40}"],
)  # fmt: skip
def test_what_nothing_can_be_made_of_that_size_of_is_refused(words, refused):
    assert "or less" in refused(*words.split())


def test_images_are_of_a_size(capsys):
    with pytest.raises(SystemExit) as stop:
        parse(ImageNetOptions, "", ["--image-size", str(HUGE)])
    assert stop.value.code == 2 and "--image-size 1000000000 is not 2,048 or less" in capsys.readouterr().err


def test_every_run_of_an_ensemble_has_a_seed(refused):
    assert vars(parse(CifarOptions, "", ["--seed", str(2**63 - 1)]))["seed"] == 2**63 - 1
    assert "--seed" in refused("--seed", str(2**62), "--ensemble", "3")


@pytest.mark.parametrize("option", ["output-dir", "data-dir", "config", "resume", "rewind"])
@pytest.mark.parametrize("path", ["a/" * 2500, "b" * 300, "", "two\nlines", os.fsdecode(b"\xff")], ids=ascii)
def test_what_is_no_path_is_refused(option, path, refused):
    message = refused("--sparse", f"--{option}", path)
    assert f"--{option}: " in message and len(message) < 300


@pytest.mark.parametrize(
    ("name", "value"),
    [("WORLD_SIZE", "abc"), ("RANK", "first"), ("LOCAL_RANK", ""), ("MASTER_PORT", "1.5"),
     ("ACCELERATE_MIXED_PRECISION", "fp8"), ("ACCELERATE_DYNAMO_BACKEND", "NONE AT ALL")],
)  # fmt: skip
def test_an_environment_that_says_nothing_is_refused(name, value, monkeypatch, tmp_path):
    monkeypatch.setenv(name, value)
    status, out, err = main(tmp_path / "run", *SPARSE, "--model", "tiny")
    assert (status, out) == (2, "") and err.count("\n") == 1
    assert name in err or value in err
    assert not (tmp_path / "run").exists()


def test_batch_norm_needs_a_batch(tmp_path):
    options = (*SPARSE, "--batch-size", "1", "--dry-run", "--model")
    status, out, err = main(tmp_path, *options, "tiny")
    assert (status, out) == (2, "") and "--batch-size 1 leaves batch norm" in err and err.count("\n") == 1
    assert main(tmp_path, *options, "plain")[0] == 0


def test_a_split_without_images_is_refused():
    splits = load_images("tiny", None, "cpu")
    for name in ("train", "test"):
        with pytest.raises(UsageError, match="there are no"):
            Splits(**{**vars(splits), name: range(0)})


def test_the_plan_of_the_longest_run_takes_no_time():
    """Its learning rates are not those of every step, but the largest is among them."""
    normal = normal_phase(99_000, 50_000, 0.1, (0.5,))
    plan = sup_tickets(normal, 2, 10**9, 0.001, 0.005, [None])
    lines = plan_table(plan, 50_000, None).splitlines()
    rates = [line.split("dense")[0].split()[-3:] for line in lines[1:]]
    assert rates == [["0.1", "0.1", "0.01"], *[["0.001", "0.005", "0.001"]] * 2]
