"""Who is told how training goes."""

from collections.abc import Mapping, Sequence
from typing import Literal, Protocol

from utils.run_folder.contents import EpochRow
from utils.training.changes import Change

# of the test metrics: that of the models to use so far, that of single tickets (and of what leads from one to the
# next), or none, as for a model that the end of the run may tell to be the one to use
Curve = Literal["to use", "tickets", "none"]


class Tracker(Protocol):
    """In a run a `reporting.tracking.Tracker`, which writes and draws what it is told."""

    def step(self) -> None:
        """An optimizer step is done; waits for nothing."""

    def epoch(self, history: Sequence[EpochRow], densities: Mapping[str, float], data_wait: float) -> None:
        """An epoch is done: a row of metrics for each, the density of each layer, the share of time without data."""

    def updates(self, changes: Sequence[Change]) -> None:
        """The topology updates since the last time."""

    def model(self, name: str, step: int, metrics: Mapping[str, float], curve: Curve) -> None:
        """A model was evaluated on the test images."""

    def log(self, line: str) -> None:
        """A line for the log."""
