"""What a run tells while it trains: a progress bar or plain lines, metrics.csv and TensorBoard."""

import csv
import io
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from utils.files.whole import write_whole
from utils.run_folder.contents import EpochRow
from utils.training.metrics import METRICS

COLUMNS = ("epoch", "step", "phase", "lr", "loss", "accuracy", *(f"valid_{name}" for name in METRICS), "density",
           "grown", "dropped", "explored", "images_per_second")  # fmt: skip
TAGS = {
    "loss": "train/loss", "accuracy": "train/accuracy", **{f"valid_{name}": f"valid/{name}" for name in METRICS},
    "lr": "opt/lr", "density": "sparse/density", "grown": "sparse/connections_grown",
    "dropped": "sparse/connections_dropped", "explored": "sparse/share_ever_explored",
    "images_per_second": "speed/images_per_second",
}  # fmt: skip


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
        self.board = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1) if active else None
        self.first, self.started = step, time.monotonic()

    def step(self) -> None:
        """One optimizer step is done; waits for nothing."""
        self.bar.update()

    def epoch(self, history: Sequence[EpochRow], sparsity: Mapping[str, float], data_wait: float) -> None:
        """An epoch is done.

        Args:
            history: a row of COLUMNS for each epoch so far.
            sparsity: of each layer now.
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
        for key, value in row.items():
            if key in TAGS and value is not None:
                self.board.add_scalar(TAGS[key], value, row["step"])
        for name, value in sparsity.items():
            self.board.add_scalar(f"layer_sparsity/{name}", value, row["step"])
        self.board.add_scalar("speed/data_wait", data_wait, row["step"])
        self.board.flush()
        valid = f"  valid {row['valid_accuracy']:5.1f} %" if row["valid_accuracy"] is not None else ""
        density = f"  density {row['density']:.3f}" if sparsity else ""
        left = (time.monotonic() - self.started) / (row["step"] - self.first) * (self.steps - row["step"])
        self.log(
            f"epoch {row['epoch']:3d}/{self.epochs}  {row['phase']:8s} lr {row['lr']:<8.4g} loss {row['loss']:.3f}  "
            f"train {row['accuracy']:5.1f} %{valid}{density}  {row['images_per_second']:,.0f} images/s  "
            f"{_duration(left)} left"
        )

    def model(self, name: str, step: int, metrics: Mapping[str, float]) -> None:
        """A model was evaluated on the test set, e.g. "ticket" or "superposed"."""
        if self.board is not None:
            for key, value in metrics.items():
                self.board.add_scalar(f"{name}/test_{key}", value, step)
            self.board.flush()
        values = ", ".join(f"{row.title} {row.text(metrics[key])}" for key, row in METRICS.items())
        self.log(f"{name:>10s}: test {values}")

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
