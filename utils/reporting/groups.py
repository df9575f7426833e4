"""Rows of the report: runs that differ in nothing but the seed, as the papers name them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from models.ensembles import ENSEMBLES
from sparselearning.methods import METHODS
from utils.command_line.rows import Setting, shown
from utils.run_folder.contents import Summary
from utils.training.metrics import METRICS, SCORE

ABOUT = ("data", "model", "density", "epochs", "method", "sup_tickets")  # options that every summary records
IN_TITLE = {"edst": "EDST", "snapshot": "Snapshot", "fge": "FGE", "rewind": "rewound (LTR)"}
TITLED = (*IN_TITLE, "distill", "efficient_ensemble", "members", "ensemble")  # options that the title shows
# columns of the table: SCORE at the ends of two kinds of runs, and each of the other metrics
NORMAL, PLAIN = "normal phase", "plain run"
OTHERS = {name: metric for name, metric in METRICS.items() if name != SCORE}


class Cost(NamedTuple):
    """FLOPs of a run: training in epochs of its dense network, inference relative to that network, and of an epoch."""

    train: float
    test: float
    epoch: float  # 0: an older run does not record it


class Member(NamedTuple):
    """A run of a group; `numbers`: {column of the table: number}, accuracies in percent."""

    seed: int
    numbers: dict[str, float]
    cost: Cost
    summary: Summary


@dataclass(frozen=True)
class About:
    """What the runs of a group have in common: the options of ABOUT, and in the order of their names all `others`
    that change results and that the runs record.
    """

    data: str
    model: str
    density: float
    epochs: int
    method: str
    sup_tickets: bool
    others: Mapping[str, Setting]

    @property
    def width(self) -> float:
        width = self.others.get("width")
        return width if isinstance(width, int | float) else 1.0

    @property
    def options(self) -> dict[str, Setting]:
        """All by name."""
        return {name: getattr(self, name) for name in ABOUT} | {**self.others}


@dataclass
class Group:
    """Runs that differ in nothing but the seed."""

    about: About
    runs: list[Member] = field(default_factory=list)

    @property
    def seeds(self) -> list[int]:
        return [run.seed for run in self.runs]

    @property
    def starts(self) -> set[str | None]:
        """The runs whose normal phases the runs of the group begin with."""
        return {run.summary.get("start_from") for run in self.runs}

    @property
    def values(self) -> dict[str, list[float]]:
        """{column of the table: the number of every run}, of the columns that all runs have."""
        names = [name for name in self.runs[0].numbers if all(name in run.numbers for run in self.runs)]
        return {name: [run.numbers[name] for run in self.runs] for name in names}

    @property
    def title(self) -> str:
        """The regime as the papers print it, e.g. "RigL + Sup-tickets"."""
        about, options = self.about, self.about.others
        title = METHODS[about.method].title if about.method in METHODS else about.method.capitalize()
        if about.width != 1:
            title = f"Small-{title}" if about.method == "dense" else f"{title}, width {about.width:g}"
        swa = options.get("cycle_lr") == "swa" and options.get("growth") == "none"  # averages that explore nothing
        title += (" + SWA" if swa else " + Sup-tickets") * about.sup_tickets
        title += " + distillation" * ("distill" in options)
        parts = [title, *(what for option, what in IN_TITLE.items() if option in options)]
        efficient = options.get("efficient_ensemble")
        parts += [f"{ENSEMBLES[efficient].title} of {options['members']}"] if efficient in ENSEMBLES else []
        parts += [f"ensemble of {options['ensemble']}"] if "ensemble" in options else []
        return ", ".join(parts)

    def names(self, options: Sequence[str]) -> list[str]:
        """What tells this group from others in print: title, sparsity, epochs and these other options."""
        about = self.about
        sparsity = f"{100 * (1 - about.density):.4g} %"
        return [self.title, sparsity, str(about.epochs), *(shown(about.others.get(name, "")) for name in options)]

    def kind(self) -> list[Setting]:
        """Groups of one kind have their other options shown, to tell them apart."""
        return [*(self.about.options[name] for name in ABOUT), self.title]

    def rank(self) -> tuple[str | float, ...]:
        """Every method beside itself with Sup-tickets, the methods in the papers' order after the dense network."""
        about, others = self.about, self.about.others
        order = list(METHODS).index(about.method) if about.method in METHODS else -1
        average = str(others.get("superpose"))
        network = about.data, about.model, -about.density, about.epochs
        return *network, order, about.method, about.sup_tickets, self.title, average, repr([*others.values()])
