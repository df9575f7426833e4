"""main_cifar.py on a network and images so small that a run takes a fraction of a second, cut wherever a test wants."""

import contextlib
import functools
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import torch.nn.functional as F
from accelerate.state import AcceleratorState, GradientState
from torch import Tensor, nn

import main_cifar
import utils.reporting.summary
import utils.training.evaluation
import utils.training.interruption
from models import MODELS
from tests.scripts import end_of, run_script
from utils.command_line.program import SIGNALS
from utils.data.protocol import Splits
from utils.data.recipes import PAD
from utils.data.small_images import SmallImages
from utils.reporting.tracking import Tracker
from utils.training.run import Run

CLASSES, TRAIN, TEST = 10, 44, 37
# 4 ordinary epochs and 2 cycles of 2 epochs, of 3 steps each; the last batch of an epoch has 12 images
SUP_TICKETS = ("--epochs", "8", "--sup-tickets", "--cycle-epochs", "2", "--num-tickets", "2")
SPARSE = ("--data", "tiny", "--batch-size", "16", "--lr", "0.2", "--sparse", "--density", "0.2",
          "--update-frequency", "2")  # fmt: skip
METHODS = {
    "static": ("--method", "static"),
    "snip": ("--method", "snip", "--superpose", "caa"),
    "set": ("--method", "set", "--prune-rate-decay", "cosine"),
    "rigl": ("--method", "rigl"),
    "granet": ("--method", "granet", "--prune-end", "0.3", "--superpose", "cima"),
    "gmp": ("--method", "gmp", "--prune-end", "0.3"),
}


class Tiny(nn.Sequential):
    """Everything that keeps a state or draws at random: batch norm and dropout."""

    def __init__(self, classes: int, width: float = 1.0, norm: bool = True, dropout: float = 0.1) -> None:
        super().__init__(
            nn.Conv2d(3, 8, 3, stride=4, bias=False),
            nn.BatchNorm2d(8) if norm else nn.Identity(),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Conv2d(8, 16, 3, stride=2),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(16, classes),
        )


class Exact(Tiny):
    """In double precision, where the order of a sum does not show; without batch norm, which sees a batch's parts."""

    def __init__(self, classes: int, width: float = 1.0) -> None:
        super().__init__(classes, norm=False, dropout=0)
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.double())


NETWORKS: dict[str, Callable[[int, float], nn.Module]] = {
    "tiny": Tiny,
    "norm": functools.partial(Tiny, dropout=0),
    "plain": functools.partial(Tiny, norm=False, dropout=0),
    "exact": Exact,
}


def load_images(name: str, data_dir: str | None, device: Any, *, limit_train: int | None = None,
                limit_test: int | None = None, valid_fraction: float = 0.0, **changes: Any) -> Splits:  # fmt: skip
    """In the place of `load_cifar`: noise whose color tells the class."""

    def images(n: int) -> SmallImages:
        labels = torch.arange(n) % CLASSES
        noise = torch.randint(0, 64, (n, 32, 32, 3), generator=torch.Generator().manual_seed(n))
        color = torch.stack((labels, 3 * labels % CLASSES, 7 * labels % CLASSES), 1).view(n, 1, 1, 3)
        pixels = F.pad((noise + 20 * color).byte(), (0, 0, PAD, PAD, PAD, PAD))
        mean, std = torch.full((3, 1, 1), 0.45), torch.full((3, 1, 1), 0.25)
        return SmallImages(pixels, labels, mean, std, CLASSES, flip=True, shift=4)

    held_out = replace(images(20), flip=False, shift=0) if valid_fraction else None
    return Splits(images(limit_train or TRAIN), held_out, replace(images(limit_test or TEST), flip=False, shift=0), 10)


@contextlib.contextmanager
def restored() -> Iterator[None]:
    """A run takes over signals, and the Accelerator of a run, or of another test, stays for the next one."""
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    forget_accelerator()
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        forget_accelerator()


def forget_accelerator() -> None:
    """Not the process group, which serves the next run too."""
    AcceleratorState._reset_state()
    GradientState._reset_state()


def no_pictures() -> contextlib.AbstractContextManager[Any]:
    """A run draws none."""
    names = ("draw_learning_curve", "draw_sparsity")
    return mock.patch.multiple(utils.reporting.summary, **dict.fromkeys(names, mock.DEFAULT))


@contextlib.contextmanager
def tiny_world() -> Iterator[None]:
    """The networks and images above, small intervals, no pictures; leaves everything as it was."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with (
            restored(),
            mock.patch.dict(MODELS, NETWORKS),
            mock.patch.object(main_cifar, "load_cifar", load_images),
            no_pictures(),
            mock.patch.object(utils.training.interruption, "POLL_STEPS", 1),
            mock.patch.object(utils.training.evaluation, "BATCH", 8),  # so that every process has some to evaluate
            mock.patch.object(os, "fsync"),  # slow, and for power cuts only
            mock.patch.dict(os.environ, ACCELERATE_USE_CPU="true"),
        ):
            yield
    finally:
        torch.set_num_threads(threads)


@contextlib.contextmanager
def signal_at(step: int | None, number: int = signal.SIGTERM) -> Iterator[None]:
    """This process gets the signal when it has done so many optimizer steps of the run."""
    original = Tracker.step

    def counted(tracker: Tracker) -> None:
        original(tracker)
        tracker.done = getattr(tracker, "done", tracker.first) + 1  # type: ignore[attr-defined]
        if tracker.done == step:  # type: ignore[attr-defined]
            os.kill(os.getpid(), number)

    with mock.patch.object(Tracker, "step", counted):
        yield


def built(*options: str) -> Run:
    """The run of the command line, before its first step."""
    runs: list[Run] = []

    def keep(run: Run, _: object) -> None:
        runs.append(run)
        sys.exit()

    with mock.patch.object(main_cifar, "begin", keep), contextlib.suppress(SystemExit):
        run_script(main_cifar, *options)
    return runs[0]


def main(folder: Path, *options: str, stop: int | None = None, number: int = signal.SIGTERM) -> tuple[int, str, str]:
    """Run main_cifar.py in this process; returns its exit status and what it wrote on stdout and stderr."""
    torch.manual_seed(time.time_ns() % 2**32)  # a run must not depend on what was drawn before it
    with tiny_world(), signal_at(stop, number):
        return end_of(main_cifar, "--output-dir", str(folder), *options)
