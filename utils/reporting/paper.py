"""The figures of the papers' tables, beside those of runs that are like theirs."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from sparselearning.errors import UsageError
from sparselearning.phases import cyclic_epochs
from utils.command_line.options import CifarOptions, ImageNetOptions, Options
from utils.command_line.parser import parse
from utils.command_line.rows import Setting, flag, shown
from utils.reporting.groups import About, Group
from utils.reporting.read import others_of

FILE = Path(__file__).parents[2] / "launch/paper.csv"
SHORT = {"sup": "Sup-tickets", "free": "FreeTickets"}  # as the scripts of the tables are named
IMAGENET = ("imagenet", "imagenet-1k", "ilsvrc2012")  # what its folders and data sets are called
# options in which a run may differ from the paper's, where its line does not name them; the table says so
SAID = ("width", "limit_train", "limit_test", "valid_fraction", "batch_size", "gradient_accumulation_steps",
        "update_frequency")  # fmt: skip
# in epochs: they are as long a part of the run as in the paper, to whole epochs
LENGTHS = ("cycle_epochs", "exploration_epochs", "refine_epochs", "fine_tune_epochs")
# what the papers do not tell; what is compared otherwise; and what only says how a run came about
IGNORED = {"mixed_precision", "compile", "sparse_kernels", "update_limit", "epochs", "data", "num_tickets",
           "ticket_fraction", "start_from", "parts_of"}  # fmt: skip


class Line(NamedTuple):
    """A figure of a table, as it stands there.

    Attributes:
        density: empty where the paper does not tell it.
        variant: the options that make the regime, beside the method and its density.
        metric: a column of the report, or what it has no column for.
        std: the standard deviation; empty where there is none.
    """

    paper: str
    table: str
    data: str
    model: str
    method: str
    density: str
    variant: str
    metric: str
    mean: str
    std: str

    @property
    def figure(self) -> str:
        return f"{self.mean}±{self.std}" if self.std else self.mean

    @property
    def words(self) -> str:
        """The command line of such a run."""
        sparse = f"--sparse --method {self.method}" if self.method != "dense" else ""
        density = f"--density {self.density}" if sparse and self.density else ""
        data = f"--data {self.data}" if self.data != "imagenet" else ""
        return " ".join(f"{data} --model {self.model} {sparse} {density} {self.variant}".split())

    def options(self) -> Options:
        return _parsed(self.words, self.data == "imagenet")


@cache
def _parsed(words: str, imagenet: bool) -> Options:
    return parse(ImageNetOptions if imagenet else CifarOptions, "", words.split())


class Beside(NamedTuple):
    """What the paper has beside a row of the report: {column: figure}, and where that stands."""

    figures: Mapping[str, str]
    where: str


def read_lines() -> list[Line]:
    with open(FILE, newline="") as file:
        return [Line(*row) for row in list(csv.reader(file))[1:]]


def lines_of(table: str) -> list[Line]:
    """Those of a table, e.g. "sup1"; of all with "all". Raises UsageError where there is no such table."""
    lines = read_lines()
    own = [line for line in lines if table in ("all", _short(line))]
    if not own:
        names = ", ".join(dict.fromkeys(map(_short, lines)))
        raise UsageError(f"--paper {table} is none of the papers' tables with results: use all, or one of {names}")
    return own


def _short(line: Line) -> str:
    return next(short for short, paper in SHORT.items() if paper == line.paper) + line.table


def beside(groups: Sequence[Group], lines: Sequence[Line]) -> list[Beside]:
    """For every group the figures of the lines that are most like it; none where all are of other regimes."""
    found = []
    for group in groups:
        alike = [(said, line) for line in lines if (said := differences(group.about, line)) is not None]
        least = min((len(said) for said, _ in alike), default=0)
        nearest = [(said, line) for said, line in alike if len(said) == least]
        figures: dict[str, Line] = {}
        for _, line in nearest:
            figures.setdefault(line.metric, line)  # of several tables with a figure, the first
        sources = dict.fromkeys(f"{line.paper}, Table {line.table}" for line in figures.values())
        printed = {metric: line.figure.replace("±", " ± ") for metric, line in figures.items()}
        found.append(Beside(printed, "; ".join([*sources, *(nearest[0][0] if nearest else ())])))
    return found


def differences(about: About, line: Line) -> list[str] | None:
    """In what the runs of a row differ from those of a paper's line, in words; None: that is another regime."""
    data = IMAGENET if line.data == "imagenet" else (line.data,)
    if about.data.lower().rsplit("/", 1)[-1] not in data or (about.model, about.method) != (line.model, line.method):
        return None
    if not about.others or (line.density and about.density != float(line.density)):
        return None
    theirs = about_of(line)
    said = [f"at {about.epochs} of {theirs.epochs} epochs"] if about.epochs != theirs.epochs else []
    if (about.sup_tickets, _tickets(about)) != (theirs.sup_tickets, _tickets(theirs)):
        return None
    ignored = IGNORED | ({"batch_size"} if line.data == "imagenet" else set())  # there processes share a batch
    for name in sorted({*about.others, *theirs.others} - ignored):
        own, other = about.others.get(name), theirs.others.get(name)
        if name == "update_frequency" and other is None:
            other = theirs.others.get("update_limit")  # ΔT of a run as long as the paper's
            own = other if own is None else own
        if own == other or (name in LENGTHS and _as_long(own, other, about.epochs / theirs.epochs)):
            continue
        if name not in SAID or flag(name) in line.variant.split():
            return None
        said.append(f"{flag(name)} {shown(own)}")
    return said


def about_of(line: Line) -> About:
    """What the runs of a line have in common."""
    options = line.options()
    method = options.method if options.sparse else "dense"
    density = options.density if options.sparse else 1.0
    return About(
        options.data, options.model, density, options.epochs, method, options.sup_tickets, others_of(options)
    )  # fmt: skip


def _tickets(about: About) -> Setting:
    """How many tickets a run ends in."""
    others = about.others
    length, fraction = others.get("cycle_epochs"), others.get("ticket_fraction")
    if "num_tickets" in others or not isinstance(length, int):
        return others.get("num_tickets")
    return cyclic_epochs(about.epochs, length, None, fraction if isinstance(fraction, float) else None) // length


def _as_long(own: Setting, other: Setting, scale: float) -> bool:
    return isinstance(own, int) and isinstance(other, int) and abs(own - scale * other) < 1


def missing(lines: Iterable[Line], groups: Sequence[Group], columns: Sequence[str]) -> list[str]:
    """What a table of the paper has and the report has not, a sentence each: lines, and columns."""
    absent: dict[str, list[str]] = {}
    for _, of_run in groupby(lines, lambda line: (line.data, line.model, line.method, line.density, line.variant)):
        line = next(of_run)
        if all(differences(group.about, line) is None for group in groups):
            about = about_of(line)
            options = " ".join(word for word in _beyond_title(line.variant))
            title = f"{about.data} {about.model} {Group(about).title}" + f" ({options})" * bool(options)
            absent.setdefault(title, []).append(f"{100 * (1 - about.density):.4g} %")
    unknown = dict.fromkeys(line.metric for line in lines if line.metric not in columns)
    names = "; ".join(f"{title}, {', '.join(at)}" for title, at in absent.items())
    sentences = [f"No run here is like: {names}."] if absent else []
    return sentences + ([f"No figure here of: {', '.join(unknown)}."] if unknown else [])


def _beyond_title(variant: str) -> list[str]:
    """The words of the options that the title of a row does not show."""
    options = variant.replace("--rewind RUN", "").replace("--distill 1 2 3", "").split("--")[1:]
    shown_already = ("sup-tickets", "edst", "snapshot", "fge", "ensemble", "width",
                     "efficient-ensemble", "members")  # fmt: skip
    return [f"--{option.strip()}" for option in options if option.split()[0] not in shown_already]
