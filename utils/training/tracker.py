"""Who is told how training goes."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from utils.run_folder.contents import EpochRow


class Tracker(Protocol):
    """In a run a `reporting.tracking.Tracker`, which writes and draws what it is told."""

    def step(self) -> None:
        """An optimizer step is done; waits for nothing."""

    def epoch(self, history: Sequence[EpochRow], sparsity: Mapping[str, float], data_wait: float) -> None:
        """An epoch is done: a row of metrics for each, the sparsity of each layer, the share of time without data."""

    def model(self, name: str, step: int, metrics: Mapping[str, float]) -> None:
        """A model was evaluated on the test images."""

    def log(self, line: str) -> None:
        """A line for the log."""
