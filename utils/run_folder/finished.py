"""A finished run read back: its summary.json, checked once, and the options beside it."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, NotRequired, Required, TypedDict, cast

from sparselearning.errors import UsageError
from utils.command_line.config import read_mapping
from utils.files.typed import mismatch
from utils.files.whole import read_json

Numbers = dict[str, float]  # metrics by name


class Results(TypedDict, total=False):
    """The metrics of the models of a run on the test images.

    Attributes:
        final: at the end of the last phase.
        normal, explore: at the end of the phase before the first ticket.
        superposed, ensemble: of the tickets.
    """

    final: Required[Numbers]
    tickets: list[Numbers]
    normal: Numbers
    explore: Numbers
    superposed: Numbers
    ensemble: Numbers


class Summary(TypedDict):
    """What stands in summary.json; what older versions do not record may be missing.

    Attributes:
        density: of the maskable weights at the end.
        maskable: how many there are; `nnz` of them are not zero, both of each layer too.
        test: accuracies in percent.
        flops: as `training.costs.Costs.summary` makes them.
        ensemble: of how many runs.
    """

    data: str
    model: str
    method: str
    sup_tickets: bool
    seed: int
    epochs: int
    density: float
    test: Results
    flops: Numbers
    maskable: NotRequired[int]
    nnz: NotRequired[int]
    nnz_per_layer: NotRequired[dict[str, int]]
    weights_per_layer: NotRequired[dict[str, int]]
    flops_per_layer: NotRequired[Numbers]
    images_per_second: NotRequired[float]
    train_seconds: NotRequired[float]
    ensemble: NotRequired[int]


class FinishedRun(NamedTuple):
    """`options`: those that args.yaml records; none where the summary alone was kept."""

    summary: Summary
    options: dict[str, Any]


def read_run(path: Path) -> FinishedRun:
    """The run of a summary.json. Raises UsageError where it is damaged, or lacks what every version records."""
    return FinishedRun(read_summary(path), read_options(path.parent))


def read_summary(path: Path) -> Summary:
    """Raises UsageError as `read_run`."""
    return cast(Summary, checked(path, Summary))


def checked(path: Path, kind: Any) -> Any:
    """The content of a JSON file of a run. Raises UsageError where it is not of its kind, a TypedDict."""
    content = read_json(path)
    if problem := mismatch(content, kind, path.name):
        raise UsageError(f"{path.parent} is not the folder of a finished run: {problem}, in {path.name}")
    return content


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


def read_options(folder: Path) -> dict[str, Any]:
    """Those of the run in a folder, empty where there is none. Raises UsageError where they cannot be read."""
    file = folder / "args.yaml"
    return read_mapping(file, str(file)) if file.is_file() else {}
