"""The options of `python -m utils.picture`."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

from sparselearning.errors import UsageError
from utils.command_line.paths import check_report, place
from utils.command_line.rows import Group, Range, count, option, required

PREDICTIONS = ("line", "trajectories", "disagreement", "features", "reliability")  # pictures of what tickets predict
TICKETS, RUNS = (*PREDICTIONS, "overlap"), ("density", "accuracy")  # what they are made of
LINE, SEEN = {"picture": ("line",)}, {"picture": PREDICTIONS}


@dataclass(frozen=True, kw_only=True)
class PictureOptions(Group):
    """picture: What is drawn, and of which tickets or runs."""

    program = "python -m utils.picture"

    picture: str = required("one of the above", metavar="PICTURE", choices=(*TICKETS, *RUNS), positional=True)
    tickets: tuple[Path, ...] = option((), "safetensors files", metavar="FILE", only={"picture": TICKETS})
    runs: tuple[str, ...] = option((), "run folders, or folders above them", metavar="RUN", only={"picture": RUNS})
    names: tuple[str, ...] = option((), "what the tickets are called in the picture (what tells their files apart)",
        metavar="NAME", only={"picture": ("line", "disagreement", "reliability", "overlap")})  # fmt: skip
    output: Path | None = option(None, "the file to write (PICTURE.png)", metavar="FILE")
    json: Path | None = option(None, "write the numbers of the picture here", metavar="FILE")
    data: str | None = option(None, "as main_cifar.py takes it (what the tickets say)", metavar="NAME", only=SEEN)
    data_dir: str | None = option(None, "read the data here instead of from the Hub", metavar="FOLDER", read=place,
                                  only=SEEN)  # fmt: skip
    model: str | None = option(None, "(what the tickets say)", metavar="NAME", only={"picture": TICKETS})
    limit_test: int | None = option(None, "use the first N test images only", metavar="N", fits=count(10**9), only=SEEN)
    limit_train: int | None = option(None, "recompute batch norm on the first N training images only", metavar="N",
                                     fits=count(10**9), only=LINE)  # fmt: skip
    points: int = option(11, "points of each line, both ends among them", metavar="N", only=LINE,
                         fits=Range(lambda v: v >= 2, "2 or more", 10_000))  # fmt: skip
    dense_epochs: int | None = option(None, "length of the dense training that FLOPs are relative to, as in "
        "utils.report", metavar="N", fits=count(10**9), only={"picture": ("accuracy",)})  # fmt: skip

    @property
    def file(self) -> Path:
        """Where the picture goes."""
        return self.output or Path(f"{self.picture}.png")

    def checked(self, given: Collection[str]) -> Self:
        needed: Literal["tickets", "runs"] = "tickets" if self.picture in TICKETS else "runs"
        least = 1 if self.picture in (*RUNS, "reliability") else 4 if self.picture == "trajectories" else 2
        if len(getattr(self, needed)) < least:
            raise UsageError(f"{self.picture} is a picture of {needed}: give --{needed}, {least} or more")
        if self.names and len(self.names) != len(self.tickets):
            raise UsageError(f"{len(self.names)} --names are not for {len(self.tickets)} tickets: give one for each")
        check_report("--output", self.file, self.file.suffix, self.json, *self.tickets)
        check_report("--json", self.json, ".json", *self.tickets)
        return self
