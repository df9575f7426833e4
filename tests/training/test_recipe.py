"""The recipes hold at any length and on any number of processes: warm-up in steps, a batch for its learning rate."""

import os
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import yaml

from tests.processes import launch
from tests.tiny import main
from utils.command_line.options import CifarOptions, ImageNetOptions
from utils.command_line.parser import parse
from utils.training.plan import lr_warning, make_plan

REPOSITORY = Path(__file__).parents[2]

# ---- warm-up ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "per_epoch", "warm"),
    [
        ("", 10_009, 50_045),  # the paper's 5 of 100 epochs
        ("--epochs 5", 10_009, 2_502),  # of 2,502.25 steps
        ("--epochs 5", 74, 18),  # of Imagenette's 9,469 images
        ("--epochs 5 --warmup 0.15", 20, 15),
        ("--epochs 5 --warmup 0", 20, 0),
        ("--epochs 25 --sparse --sup-tickets", 20, 25),  # of the run, not of its 23 normal epochs
        ("--epochs 25 --sparse --sup-tickets --lr-parts normal", 20, 23),
        ("--epochs 17 --sparse --edst --num-tickets 2", 20, 10),  # of 3 epochs and a refinement of 7
    ],
)
def test_warm_up_is_a_part_of_the_run_to_whole_steps(words: str, per_epoch: int, warm: int) -> None:
    first = make_plan(parse(ImageNetOptions, "", words.split()), per_epoch, 128)[0]
    rates = [first.lr(step) for step in range(warm + 2)]
    np.testing.assert_allclose(rates, [*(0.1 * np.arange(1, warm + 1) / max(warm, 1)), 0.1, 0.1])


def test_the_rate_still_falls_at_whole_epochs_in_a_run_of_five() -> None:
    (normal,) = make_plan(parse(ImageNetOptions, "", ["--epochs", "5"]), 20, 128)
    rates = np.array([normal.lr(step) for step in range(100)])
    assert (5 + np.flatnonzero(np.diff(rates[4:]) < 0)).tolist() == [20, 60, 80]


# ---- the batch of the recipe -----------------------------------------------------------------------------------------


def plan_of(*options: str) -> list[str]:
    """What --dry-run prints."""
    with TemporaryDirectory() as folder:
        status, out, err = main(Path(folder) / "run", "--data", "tiny", "--model", "tiny", *options, "--dry-run")
    assert (status, err) == (0, "")
    return out.splitlines()


@pytest.mark.parametrize(
    ("words", "step", "rate", "advice"),
    [  # 44 images
        ("", "128 images", "0.1", None),
        ("--batch-size 32 --gradient-accumulation-steps 4", "4 backward passes × 32 images = 128 images", "0.1", None),
        ("--batch-size 64 --scale-lr", "64 images", "0.05", None),
        ("--batch-size 64 --lr 0.05", "64 images", "0.05", None),
        ("--batch-size 64", "64 images", "0.1", "not 64: use --batch-size 128, --scale-lr, or an --lr"),
        ("--batch-size 16 --gradient-accumulation-steps 2 --lr 0.1", "2 backward passes × 16 images = 32 images", "0.1",
         "not 32: use --batch-size 64, --scale-lr, or an --lr"),
        ("--batch-size 8 --gradient-accumulation-steps 3", "3 backward passes × 8 images = 24 images", "0.1",
         "not 24: use --scale-lr, or an --lr"),
    ],
)  # fmt: skip
def test_the_plan_tells_the_images_of_a_step_and_its_learning_rate(
    words: str, step: str, rate: str, advice: str | None
) -> None:
    lines = plan_of(*words.split())
    assert f"optimizer step: {step}, learning rate {rate}" in lines
    warnings = [line for line in lines if line.startswith("warning")]
    assert len(warnings) == (advice is not None)
    if advice:
        assert f"the recipe's learning rate of 0.1 is for 128 images per optimizer step, {advice}" in warnings[0]


@pytest.mark.parametrize("script", ["multi_gpu", "multi_node"])
def test_many_processes_leave_the_recipe_with_a_warning(script: str) -> None:
    """The shipped launcher configurations, with the default --batch-size and with the one that the warning names."""
    processes = yaml.safe_load((REPOSITORY / f"launch/configs/{script}.yaml").read_text())["num_processes"]
    args = parse(CifarOptions, "", [])
    warning = lr_warning(args, args.batch_size * processes, processes)
    assert warning and f"not {128 * processes:,}: use --batch-size {128 // processes}, --scale-lr" in warning
    assert lr_warning(args, 128 // processes * processes, processes) is None


def test_two_processes_are_told_in_the_plan(tmp_path: Path) -> None:
    assert launch(2, dry_run, tmp_path) == [0, 0]
    lines = (tmp_path / "0").read_text().splitlines()
    assert "optimizer step: 2 processes × 16 images = 32 images, learning rate 0.1" in lines
    assert any("not 32: use --batch-size 64, --scale-lr" in line for line in lines)
    assert (tmp_path / "1").read_text() == ""


def dry_run(folder: Path) -> None:
    _, out, _ = main(folder / "run", "--data", "tiny", "--model", "tiny", "--batch-size", "16", "--dry-run")
    (folder / os.environ["RANK"]).write_text(out)


@pytest.mark.parametrize(
    ("images", "said"),
    [("32", "2 steps per epoch"), ("37", "2 steps per epoch, 5 images left out"),
     ("44", "3 steps per epoch, the last of 12"), ("12", "1 step per epoch, the last of 12")],
)  # fmt: skip
def test_the_plan_tells_what_becomes_of_a_rest(images: str, said: str) -> None:
    assert plan_of("--batch-size", "16", "--limit-train", images)[0].endswith(f"37 test images, {said}")


@pytest.mark.parametrize(("method", "moves"), [("snip", False), ("static", False), ("pf", False), ("rigl", True),
                                               ("gmp", True)])  # fmt: skip
def test_the_plan_says_that_connections_move_where_they_do(method: str, moves: bool) -> None:
    lines = plan_of("--sparse", "--density", "0.2", "--method", method, "--epochs", "40")
    assert any("connections move every" in line for line in lines) == moves
    assert any("move every ΔT" in line for line in lines) == moves


@pytest.mark.parametrize(("frequency", "said"), [("1", "move every step"), ("2", "move every 2 steps")])
def test_the_plan_says_how_often_connections_move(frequency: str, said: str) -> None:
    lines = plan_of("--sparse", "--density", "0.2", "--update-frequency", frequency)
    assert any(line.endswith(said) for line in lines)
