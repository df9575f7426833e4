"""A finished run read back: its summary.json, checked once, and the options beside it."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, TypeVar

from sparselearning.errors import UsageError
from utils.command_line.config import read_mapping
from utils.command_line.rows import Setting
from utils.files.typed import checked
from utils.files.whole import read_json
from utils.run_folder.contents import Summary

T = TypeVar("T")


class FinishedRun(NamedTuple):
    """`options`: those that args.yaml records; none where the summary alone was kept."""

    summary: Summary
    options: dict[str, Setting]


def read_run(path: Path) -> FinishedRun:
    """The run of a summary.json. Raises UsageError where it is damaged, or lacks what every version records."""
    return FinishedRun(read_summary(path), read_options(path.parent))


def read_summary(path: Path) -> Summary:
    """Raises UsageError as `read_run`."""
    summary = read_content(path, Summary)
    if "final" not in summary["test"]:
        raise UsageError(f"{path.parent} is not the folder of a finished run: 'final' is missing, in {path.name}")
    return summary


def read_content(path: Path, kind: type[T]) -> T:
    """The content of a JSON file of a run. Raises UsageError where it is not of its kind."""
    content = read_json(path)
    try:
        return checked(content, kind, path.name)
    except UsageError as error:
        raise UsageError(f"{path.parent} is not the folder of a finished run: {error}, in {path.name}") from error


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Around what reads values without a type, such as recorded options: raises UsageError where they are wrong.
    """
    try:
        yield
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(f"{path.parent} is not the folder of a finished run: {in_words(error)}") from error


def in_words(error: Exception) -> str:
    """What an error says of the values that it was raised for, in one line."""
    return f"{error} is missing" if isinstance(error, KeyError) else " ".join(str(error).split())


def read_options(folder: Path) -> dict[str, Setting]:
    """Those of the run in a folder, empty where there is none. Raises UsageError where they cannot be read."""
    file = folder / "args.yaml"
    content = read_mapping(file, str(file)) if file.is_file() else {}
    try:
        return checked(content, dict[str, Setting], file.name)
    except UsageError as error:
        raise UsageError(f"{file} holds what is no option: {error}") from error
