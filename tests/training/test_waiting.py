"""On a GPU the host prepares steps ahead: within an epoch nothing of a step asks the device for a number."""

from pathlib import Path
from unittest import mock

import pytest
import torch

import main_cifar
from tests.scripts import end_of
from tests.tiny import restored
from utils.reporting.tracking import Tracker

STRICT = range(6, 18)  # steps of 20 or more; before them kernels are chosen and graphs recorded
RUN = "--data digits --model resnet20 --limit-train 1200 --batch-size 30 --epochs 1 --sparse --update-frequency 39"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="a CPU waits for nothing")
@pytest.mark.parametrize("options", ["", "--mixed-precision bf16", "--compile", "--gradient-accumulation-steps 2"])
def test_no_step_waits_for_the_device(options: str, tmp_path: Path) -> None:
    """Whoever waits in one of the STRICT steps meets an error; a topology update, which may wait, is not among them."""
    words = [*RUN.split(), *options.split(), "--output-dir", str(tmp_path / "run")]
    done = 0

    def step(_: Tracker) -> None:
        nonlocal done
        done += 1
        torch.cuda.set_sync_debug_mode("error" if done in STRICT else "default")

    with restored(), mock.patch.object(Tracker, "step", step):
        try:
            status, _, err = end_of(main_cifar, *words)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert (status, err) == (0, "")
    assert done > STRICT.stop
