"""When a run saves: after every interval, and at once when it is to stop."""

import os
import signal
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest

from tests.tiny import restored
from utils.training.interruption import Interruption

ALONE: Any = SimpleNamespace(num_processes=1)


def test_a_checkpoint_is_due_after_every_interval_and_once() -> None:
    with mock.patch("time.monotonic", return_value=0.0) as clock:
        interruption = Interruption(ALONE, minutes=2)
        due = []
        for second in range(0, 400, 10):
            clock.return_value = float(second)
            if interruption.poll(second) == (True, 0):
                due.append(second)
    assert due == [120, 240, 360]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_told_once_it_came_and_the_next_one_ends_the_process(number: signal.Signals) -> None:
    ended: list[int] = []
    with restored():
        signal.signal(number, lambda number, frame: ended.append(number))  # what else ends this process
        interruption = Interruption(ALONE, minutes=1000)
        with interruption:
            assert interruption.poll(1) == (False, 0)
            os.kill(os.getpid(), number)
            assert interruption.poll(2) == (True, number) and not ended
            os.kill(os.getpid(), number)
            assert ended == [number]
        os.kill(os.getpid(), number)  # after training it is nobody's to remember
        assert ended == [number] * 2
