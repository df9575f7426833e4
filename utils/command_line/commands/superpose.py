"""The options of `python -m utils.superpose`."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from sparselearning.averages import PRUNINGS
from sparselearning.errors import UsageError
from utils.command_line.commands.tickets import TicketFileOptions
from utils.command_line.paths import check_owner, check_report
from utils.command_line.rows import FROM_0, TO_1, count, derived, is_on, option
from utils.command_line.sparse_options import AveragingOptions

READS_DATA = ("evaluate", "greedy", "bn recompute", "data_dir")


@dataclass(frozen=True, kw_only=True)
class SuperpositionOptions(AveragingOptions):
    """What superposing saved tickets needs beside that."""

    sup_tickets = True  # in a run the switch for what is always done here
    density: float | None = option(None, "fraction of maskable weights that is kept (the tickets')", metavar="D",
                                   fits=TO_1)  # fmt: skip
    prune_average: str = derived(
        lambda options: "last" if options.greedy else "every", "back to the density: after every averaging, and the "
        "next goes on from there; or only the last, of the plain mean (every; last with --greedy)",
        choices=PRUNINGS)  # fmt: skip
    greedy: bool = option(False, "only tickets that leave it as accurate on validation images, best first")
    evaluate: bool = option(False, "all on the test images; so does whatever else reads data: --greedy, --bn recompute "
                            "and --data-dir")  # fmt: skip
    limit_train: int | None = option(None, "use the first N training images only (as the tickets did)", metavar="N",
                                     fits=count(10**9), needs=("greedy", "bn recompute"))  # fmt: skip
    valid_fraction: float | None = option(None, "the part of the training images that no ticket was trained on (what "
                                          "the tickets say)", metavar="F", fits=FROM_0, needs=("greedy",))  # fmt: skip
    output: Path = option(Path("superposed.safetensors"), "the file to write", metavar="FILE")
    overwrite: bool = option(False, "replace the file that --output names")


@dataclass(frozen=True, kw_only=True)
class SuperposeOptions(TicketFileOptions, SuperpositionOptions):
    """Those of utils.superpose."""

    program = "python -m utils.superpose"
    limit_test: int | None = option(None, "use the first N test images only", metavar="N", fits=count(10**9),
                                    needs=READS_DATA)  # fmt: skip

    @property
    def reads_data(self) -> bool:
        return any(is_on(self, need) for need in READS_DATA)

    def checked(self, given: Collection[str]) -> Self:
        if len(self.tickets) < 2:
            raise UsageError("one ticket is no superposition: give --tickets two files or more")
        if self.output.resolve() in [path.resolve() for path in self.tickets]:
            raise UsageError(f"--output {self.output} is one of the tickets: give it another name")
        if self.output.exists() and not self.overwrite:
            raise UsageError(f"{self.output} exists: give another --output, or --overwrite to replace it")
        check_owner("--output", self.output, ".safetensors", self.json)
        check_report("--json", self.json, ".json", *self.tickets)
        return self
