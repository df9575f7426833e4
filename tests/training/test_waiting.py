"""On a GPU the host prepares steps ahead: within an epoch nothing of a step asks the device for a number."""

from pathlib import Path

import pytest
import torch

from models import build
from tests.tiny import restored
from utils.command_line.options import CifarOptions
from utils.command_line.parser import parse
from utils.data.cifar import load_cifar
from utils.training.build import make_accelerator
from utils.training.interruption import Interruption
from utils.training.loop import train
from utils.training.run import Run

STRICT = range(6, 20)  # steps; before them kernels are chosen and graphs recorded


class Strict:
    """In the place of a Tracker: whoever waits for the device in one of the STRICT steps meets an error."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.board, self.steps = folder, None, 0

    def step(self) -> None:
        self.steps += 1
        torch.cuda.set_sync_debug_mode("error" if self.steps in STRICT else "default")

    def epoch(self, *_: object) -> None: ...

    def say(self, line: str) -> None: ...


@pytest.mark.skipif(not torch.cuda.is_available(), reason="a CPU waits for nothing")
@pytest.mark.parametrize("options", ["", "--mixed-precision bf16", "--compile", "--gradient-accumulation-steps 2"])
def test_no_step_waits_for_the_device(options: str, tmp_path: Path) -> None:
    words = "--data digits --model resnet20 --epochs 1 --batch-size 30 --sparse --update-frequency 1000"
    args = parse(CifarOptions, "", [*words.split(), *options.split()])
    with restored():
        try:
            accelerator = make_accelerator(args)
            data = load_cifar("digits", None, accelerator.device, limit_train=1200)
            run, strict = Run(args, accelerator, build(args.model, 10), data), Strict(tmp_path)
            train(run, run.plan[0], strict, Interruption(accelerator, 10))  # type: ignore[arg-type]
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert strict.steps >= STRICT.stop
