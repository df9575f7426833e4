"""What a program does before imports that take seconds: output that cannot end it, signals that do so in one line."""

import contextlib
import io
import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, BinaryIO, TextIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


class Lenient(io.RawIOBase):
    """A terminal, pipe or log that may go away or fill up: what it does not take is dropped."""

    def __init__(self, raw: io.RawIOBase | BinaryIO) -> None:
        self.raw = raw

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self.raw.fileno()

    def isatty(self) -> bool:
        return self.raw.isatty()

    def write(self, data: "ReadableBuffer") -> int | None:
        with contextlib.suppress(OSError):
            return self.raw.write(data)
        return memoryview(data).nbytes


def start() -> None:
    """Call it first: nothing that is printed can end the program, and a signal ends it at once, in one line."""
    for number in range(3):  # a closed one would be given to the next file that is opened
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    sys.stdout, sys.stderr = _lenient(sys.stdout, 1), _lenient(sys.stderr, 2)
    for number in heeded():
        signal.signal(number, _end)
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_leave_signals_to_parent)


def heeded() -> list[int]:
    """The signals that are to end the program: `nohup`, for one, has SIGHUP ignored."""
    return [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]


def _lenient(stream: TextIO | None, number: int) -> TextIO:
    """The stream, but with ? for what its encoding does not have, and nothing in place of an error."""
    binary = io.FileIO(number, "w", closefd=False) if stream is None else stream.buffer
    encoding = "utf-8" if stream is None else stream.encoding
    raw = Lenient(getattr(binary, "raw", binary))
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding, errors="replace", line_buffering=True)


def _end(number: int, frame: FrameType | None) -> None:
    """Not by an exception: that could come up, and be lost, anywhere in an import or another library."""
    if os.environ.get("RANK", "0") == "0":
        after_bar = "\n" if os.isatty(2) else ""
        line = f"{after_bar}{Path(sys.argv[0]).name}: stopped by {signal.Signals(number).name}\n"
        with contextlib.suppress(OSError):
            os.write(2, line.encode(errors="replace"))
    os._exit(128 + number)


def _leave_signals_to_parent() -> None:
    """In a process that loads data: a terminal sends Ctrl-C to it too, and the parent may still want its batch."""
    for number in heeded():
        signal.signal(number, signal.SIG_DFL if number == signal.SIGTERM else signal.SIG_IGN)
