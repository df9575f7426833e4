"""What TensorBoard shows of a run: curves, the densities of layers, texts, pictures, and hyperparameters to sort by.

`tensorboard --logdir runs` reads the event files in the run folders. TensorBoard sorts groups of curves by their names,
so these are such that `test` and `train` come first. The test curves of a run are those of the model to use, such as
the superposed ticket; those of its single tickets are a run of their own, so that one chart has both as lines.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from utils.command_line.options import changes_results
from utils.command_line.paths import SINGLE_TICKETS
from utils.command_line.rows import Setting, shown
from utils.reporting.tables import markdown
from utils.run_folder.contents import EpochRow
from utils.training.changes import Change
from utils.training.metrics import METRICS
from utils.training.tracker import Curve

CURVES = {  # {column of the history: its curve}
    "loss": "train/loss", "accuracy": "train/accuracy", "lr": "train/learning_rate",
    "images_per_second": "train/images_per_second", **{f"valid_{name}": f"valid/{name}" for name in METRICS},
    "density": "weights/density", "explored": "weights/share_ever_active",
}  # fmt: skip
PICTURES = {"learning_curve.png": "train/learning_curve", "sparsity_per_layer.png": "weights/sparsity_per_layer"}


class Board:
    """The event files of one run.

    Args:
        folder: of the run.
        step: optimizer steps done already; what was written of later ones is no longer shown.
    """

    def __init__(self, folder: Path, step: int) -> None:
        self.folder, self.purge_step = folder, step + 1
        self.run = SummaryWriter(str(folder), purge_step=self.purge_step)
        self.tickets: SummaryWriter | None = None
        self.shown: Mapping[str, float] = {}  # the last point of the test curves

    def start(self, options: Mapping[str, Setting], plan: str) -> None:
        """What is going to be run.

        Args:
            options: those that make a difference.
            plan: lines of text.
        """
        rows = [["option", "value"], *([name, shown(value)] for name, value in options.items())]
        self.run.add_text("arguments", markdown(rows))
        self.run.add_text("plan", preformatted(plan))
        telling = {name: value for name, value in options.items() if changes_results(name)}
        numbers = {name: value for name, value in telling.items() if type(value) in (int, float)}
        self._tell(hparams({name: shown(value) for name, value in telling.items()} | numbers, {})[1])
        self.run.flush()

    def epoch(self, row: EpochRow, densities: Mapping[str, float], data_wait: float) -> None:
        """An epoch is done: its row of the history, the density of each layer, the share of time without data."""
        for column, value in row.items():
            if column in CURVES and value is not None:
                self.run.add_scalar(CURVES[column], value, row["step"])
        self.run.add_scalar("train/share_of_time_without_data", data_wait, row["step"])
        if densities:
            add_profile(self.run, "weights/density_by_layer", [*densities.values()], row["step"])
        self.run.flush()

    def updates(self, changes: Iterable[Change]) -> None:
        for step, dropped, grown, overlap in changes:
            self.run.add_scalar("updates/connections_dropped", dropped, step)
            self.run.add_scalar("updates/connections_grown", grown, step)
            self.run.add_scalar("updates/overlap_with_topology_before", overlap.item(), step)
        self.run.flush()

    def model(self, step: int, metrics: Mapping[str, float], curve: Curve) -> None:
        """A model was evaluated on the test images: a point of a curve."""
        if curve == "none":
            return
        if curve == "tickets" and self.tickets is None:
            self.tickets = SummaryWriter(str(self.folder / SINGLE_TICKETS), purge_step=self.purge_step)
        if curve == "to use":
            self.shown = metrics
        writer = self.tickets if curve == "tickets" and self.tickets else self.run
        for name in METRICS:
            writer.add_scalar(f"test/{name}", metrics[name], step)
        writer.flush()

    def finish(self, step: int, metrics: Mapping[str, float], table: str, pictures: Iterable[Path]) -> None:
        """The run is over.

        Args:
            metrics: of the model to use.
            table: of all models, in Markdown.
        """
        if metrics != self.shown:
            self.model(step, metrics, "to use")
        self.run.add_text("models", table)
        for path in pictures:
            with Image.open(path) as image:
                self.run.add_image(PICTURES[path.name], np.asarray(image.convert("RGB")), step, dataformats="HWC")
        self._tell(hparams({}, {})[2])

    def _tell(self, summary: object) -> None:
        """Of hyperparameters: the start or the end of a session. TensorBoard itself collects them over the runs."""
        self.run._get_file_writer().add_summary(summary)

    def close(self) -> None:
        self.run.close()
        if self.tickets is not None:
            self.tickets.close()


def preformatted(text: str) -> str:
    """Markdown of lines that keep their form."""
    return "\n".join(f"    {line}" for line in text.splitlines())


def add_profile(writer: SummaryWriter, tag: str, heights: Sequence[float], step: int) -> None:
    """A histogram with a bar of its own for each layer, in the order of the network: layer i is the bar i..i+1."""
    edges = [*range(len(heights) + 1)]
    writer.add_histogram_raw(
        tag, min=0, max=len(heights), num=len(heights), sum=sum(heights), sum_squares=sum(h * h for h in heights),
        bucket_limits=edges, bucket_counts=[0, *heights], global_step=step,
    )  # fmt: skip
