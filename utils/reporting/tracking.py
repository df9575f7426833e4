"""What a run tells while it trains: a progress bar or plain lines, metrics.csv and, through its board, TensorBoard."""

import csv
import io
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from tqdm import tqdm

from utils.command_line.rows import Setting
from utils.files.whole import write_whole
from utils.reporting.board import Board
from utils.run_folder.contents import EpochRow
from utils.training.changes import Change
from utils.training.metrics import METRICS
from utils.training.tracker import Curve

COLUMNS = ("epoch", "step", "phase", "lr", "loss", "accuracy", *(f"valid_{name}" for name in METRICS), "density",
           "grown", "dropped", "explored", "images_per_second")  # fmt: skip


class Tracker:
    """Reports of one run; only the main process has one that writes.

    Args:
        folder: the run folder.
        epochs: of the whole run.
        steps, step: optimizer steps of the whole run, and done already.
        active: is this the main process?
    """

    def __init__(self, folder: Path, epochs: int, steps: int, step: int, active: bool) -> None:
        self.folder, self.epochs, self.steps, self.active = folder, epochs, steps, active
        self.bar = tqdm(
            total=steps, initial=step, unit="step", dynamic_ncols=True, disable=not (active and sys.stderr.isatty())
        )
        self.board = Board(folder, step) if active else None
        self.first, self.started = step, time.monotonic()

    def step(self) -> None:
        """One optimizer step is done; waits for nothing."""
        self.bar.update()

    def start(self, options: Mapping[str, Setting], plan: str) -> None:
        """The options that make a difference, and the plan that follows from them."""
        if self.board is not None:
            self.board.start(options, plan)
        self.log(plan)

    def epoch(self, history: Sequence[EpochRow], densities: Mapping[str, float], data_wait: float) -> None:
        """An epoch is done.

        Args:
            history: a row of COLUMNS for each epoch so far.
            densities: of each layer now.
            data_wait: the share of this epoch's time that went by without data.
        """
        if self.board is None:
            return
        table = io.StringIO()
        writer = csv.DictWriter(table, COLUMNS)
        writer.writeheader()
        writer.writerows(history)
        write_whole(self.folder / "metrics.csv", table.getvalue())
        row = history[-1]
        self.board.epoch(row, densities, data_wait)
        valid = f"  valid {row['valid_accuracy']:5.1f} %" if row["valid_accuracy"] is not None else ""
        density = f"  density {row['density']:.3f}" if densities else ""
        left = (time.monotonic() - self.started) / (row["step"] - self.first) * (self.steps - row["step"])
        self.log(
            f"epoch {row['epoch']:3d}/{self.epochs}  {row['phase']:8s} lr {row['lr']:<8.4g} loss {row['loss']:.3f}  "
            f"train {row['accuracy']:5.1f} %{valid}{density}  {row['images_per_second']:,.0f} images/s  "
            f"{_duration(left)} left"
        )

    def updates(self, changes: Sequence[Change]) -> None:
        """The topology updates since the last time."""
        if self.board is not None:
            self.board.updates(changes)

    def model(self, name: str, step: int, metrics: Mapping[str, float], curve: Curve) -> None:
        """A model was evaluated on the test images, e.g. "superposed"."""
        if self.board is not None:
            self.board.model(step, metrics, curve)
        values = ", ".join(f"{row.title} {row.text(metrics[key])}" for key, row in METRICS.items())
        self.log(f"{name:>10s}: test {values}")

    def finish(self, metrics: Mapping[str, float], table: str, pictures: Sequence[Path]) -> None:
        """The run is over: metrics of the model to use, those of all models as a table in Markdown, pictures."""
        if self.board is not None:
            self.board.finish(self.steps, metrics, table, pictures)

    def log(self, line: str) -> None:
        if self.active:
            tqdm.write(line)
            sys.stdout.flush()

    def close(self) -> None:
        self.bar.close()
        if self.board is not None:
            self.board.close()


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
