"""The options of `python -m utils.report`."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

from utils.command_line.paths import check_report
from utils.command_line.rows import Group, count, option, required


@dataclass(frozen=True, kw_only=True)
class ReportOptions(Group):
    """table: Which runs are in it, and what is made of it."""

    program = "python -m utils.report"
    runs: tuple[str, ...] = required("run folder, summary.json, or folder above run folders", metavar="RUN",
                                     positional=True)  # fmt: skip
    json: Path | None = option(None, "the table as data", metavar="FILE")
    csv: Path | None = option(None, "the table as data", metavar="FILE")
    latex: Path | None = option(None, "the table as LaTeX, for the package booktabs", metavar="FILE")
    plot: Path | None = option(None, "a picture of it", metavar="FILE")
    paper: str | None = option(
        None, "and beside each number that of the same row of a table of the papers, e.g. sup1 or free6, or of all; "
        "what differs, and what is missing, is said", metavar="TABLE")  # fmt: skip
    significance: bool = option(False, "and a table of Kolmogorov-Smirnov tests: every method with Sup-tickets against "
                                "itself without, of other seeds")  # fmt: skip
    correlation: bool = option(False, "and a table of the correlations, over all settings of an ensemble such as its "
                               "sparsity, of the mean accuracy of its networks with its own")  # fmt: skip
    layers: bool = option(False, "and a table of the sparsity of every layer and stage")
    dense_epochs: int | None = option(None, "length of the dense training that FLOPs are relative to (that of the "
                                      "table, else its longest run)", metavar="N", fits=count(10**9))  # fmt: skip
    counting: Literal["plain", "rigl"] = option("plain", "FLOPs of a weight: 2, or as RigL counts them")

    def checked(self, given: Collection[str]) -> Self:
        check_report("--json", self.json, ".json", self.csv, self.plot)
        check_report("--csv", self.csv, ".csv", self.plot)
        check_report("--latex", self.latex, ".tex", self.json, self.csv, self.plot)
        check_report("--plot", self.plot, self.plot.suffix if self.plot else "")
        return self
