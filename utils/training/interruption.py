"""SIGTERM, SIGINT and SIGHUP end the training of a run after a complete checkpoint."""

import signal
import time
from collections.abc import Callable
from types import FrameType
from typing import Self

import torch
from accelerate import Accelerator

from utils.command_line.program import heeded

POLL_STEPS = 20  # between the processes; asking waits for the device


class Interruption:
    """Says, alike on all processes, when to save a checkpoint and when to stop.

    Signals are remembered in its context, and there alone: before the first step there is nothing to save.

    Args:
        accelerator: of the run.
        minutes: time between checkpoints.
    """

    def __init__(self, accelerator: Accelerator, minutes: float) -> None:
        self.accelerator, self.interval = accelerator, 60 * minutes
        self.signal = 0
        self.saved = time.monotonic()
        self.before: dict[int, Callable[[int, FrameType | None], object] | int | None] = {}

    def __enter__(self) -> Self:
        self.before = {number: signal.signal(number, self._remember) for number in heeded()}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self.signal = number
        signal.signal(number, self.before[number])  # a second one ends the process at once

    def poll(self, step: int) -> tuple[bool, int]:
        """(save now?, the signal to stop for or 0); a process asks after every step."""
        due, number = int(time.monotonic() - self.saved >= self.interval), self.signal
        if self.accelerator.num_processes > 1:
            if step % POLL_STEPS:
                return False, 0
            wishes = torch.tensor([float(due), float(number)], device=self.accelerator.device)
            due, number = (int(wish) for wish in self.accelerator.gather(wishes).view(-1, 2).amax(0).tolist())
        if due or number:
            self.saved = time.monotonic()
        return bool(due or number), number
