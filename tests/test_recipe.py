"""The recipes hold at any length and on any number of processes: warm-up in steps, a batch for its learning rate."""

import numpy as np
import pytest

from utils.arguments import parse
from utils.options import IMAGENET
from utils.plans import make_plan

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
    first = make_plan(parse(IMAGENET, "", words.split()), per_epoch, 128)[0]
    rates = [first.lr(step) for step in range(warm + 2)]
    np.testing.assert_allclose(rates, [*(0.1 * np.arange(1, warm + 1) / max(warm, 1)), 0.1, 0.1])


def test_the_rate_still_falls_at_whole_epochs_in_a_run_of_five() -> None:
    (normal,) = make_plan(parse(IMAGENET, "", ["--epochs", "5"]), 20, 128)
    rates = np.array([normal.lr(step) for step in range(100)])
    assert (5 + np.flatnonzero(np.diff(rates[4:]) < 0)).tolist() == [20, 60, 80]
