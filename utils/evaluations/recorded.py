"""The numbers of evaluations in the summary.json of a run, where the report finds them."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from sparselearning.errors import UsageError
from utils.evaluations.columns import Block
from utils.evaluations.table import flat
from utils.files.whole import write_json
from utils.run_folder.finished import read_summary


def record(path: Path, data: str, models: Sequence[str], blocks: Mapping[str, Block]) -> None:
    """Add what tickets of a run have come to: several to its ensemble, one to its superposed or else its final model.

    Args:
        data: of the tickets.
        models: the name of the network of each.

    Raises:
        UsageError: the summary is no run's, or of one of other data or another model, or without an ensemble.
    """
    summary = read_summary(path)
    for what, own, others in (("data", summary["data"], [data]), ("model", summary["model"], models)):
        if {*others} != {own}:
            raise UsageError(f"--summary {path} is of a run with {what} {own}, and the tickets are of {others[0]}")
    test, numbers = summary["test"], flat(blocks)
    if len(models) > 1:
        if "ensemble" not in test:
            raise UsageError(f"--summary {path} is of a run without an ensemble: give --tickets its one ticket")
        test["ensemble"] |= numbers
    elif "superposed" in test:
        test["superposed"] |= numbers
    else:
        test["final"] |= numbers
    write_json(path, summary)
