"""Paths that users give: what can be one, and what may be written over."""

import argparse
import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from sparselearning.errors import UsageError

# what a run leaves in its folder; the summary, which says that it is finished, comes first and goes first
FILES = ("summary.json", "env.json", "metrics.csv", "ticket.safetensors", "early.safetensors", "learning_curve.png",
         "sparsity_per_layer.png", "args.yaml")  # fmt: skip
SINGLE_TICKETS = "single-tickets"  # TensorBoard's run of their own
FOLDERS = ("checkpoints", "tickets", "trajectory", "superpositions", "evaluations", SINGLE_TICKETS,
           "tensorboard")  # fmt: skip  # of older versions
EVENTS = "events.out.tfevents.*"  # what TensorBoard reads, in the run folder itself, whose name it shows


def place(text: str) -> str:
    """The type of an option that names a file or a folder.

    Raises:
        ArgumentTypeError: no file system takes it, with a few letters for a suffix, or the locale does not.
    """
    if not text or any(ord(letter) < 32 for letter in text):
        raise argparse.ArgumentTypeError(f"{text[:60]!r} is no path")
    name = os.fsencode(text)
    if len(name) > 3900 or max(map(len, name.split(os.sep.encode()))) > 240:
        raise argparse.ArgumentTypeError(f"a path of {len(name):,} bytes is too long: {text[:60]}…")
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        raise argparse.ArgumentTypeError(f"the locale has no letters for {text!a}: set PYTHONUTF8=1")
    return text


def file_path(text: str) -> Path:
    """As `place`, for the commands that take it as one."""
    return Path(place(text))


def check_report(flag: str, target: Path | None, suffix: str, *others: Path | None) -> None:
    """As `check_owner`; and Raises UsageError, before any work, where the file cannot be written in the end."""
    if target is None:
        return
    if target.is_dir() or not os.access(target if target.exists() else target.parent, os.W_OK):
        raise UsageError(f"{flag} {target} cannot be written: give it another place")
    check_owner(flag, target, suffix, *others)


def check_owner(flag: str, target: Path, suffix: str, *others: Path | None) -> None:
    """Refuse to write over files of another kind, and those of a run.

    Args:
        suffix: of the files that may be replaced, e.g. ".json".
        others: files that the same command reads, or writes too.

    Raises:
        UsageError: names the remedy.
    """
    if target.resolve() in [other.resolve() for other in others if other is not None]:
        raise UsageError(f"{flag} {target} is another file of this command: give it another name")
    if target.is_file() and (target.name in FILES or target.suffix.lower() not in ("", suffix)):
        raise UsageError(f"{flag} {target} is there, and is not to be replaced: give it another name")


@contextlib.contextmanager
def writing(flag: str, target: Path) -> Iterator[None]:
    """Raises UsageError where the file that an option names cannot be written after all."""
    try:
        yield
    except OSError as error:
        raise UsageError(f"{flag} {target} cannot be written: {error.strerror or error}") from error
