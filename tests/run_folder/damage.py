"""Damaged files, and what they may not lead to."""

import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sparselearning.errors import UsageError

RANDOM = random.Random(0)


class Pickled:
    """Would make a folder if it were unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.mkdir, (str(self.mark),)


def assert_refused(error: pytest.ExceptionInfo[UsageError], *parts: object) -> None:
    message = str(error.value)
    assert "\n" not in message
    assert len(message) < 600
    assert all(str(part) in message for part in parts)


def damaged_bytes(content: bytes, cuts: int, flips: int) -> Iterator[bytes]:
    """The content cut short, and with one bit flipped."""
    for i in range(cuts):
        yield content[: len(content) * i // cuts]
    for place in RANDOM.sample(range(len(content)), flips):
        yield content[:place] + bytes([content[place] ^ 1 << RANDOM.randrange(8)]) + content[place + 1 :]
