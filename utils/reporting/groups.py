"""Rows of the report: runs that differ in nothing but the seed, as the papers name them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from sparselearning.methods import METHODS
from utils.command_line.rows import shown
from utils.run_folder.finished import Summary
from utils.training.metrics import METRICS, SCORE

# options that every summary records, and their types
ABOUT = {"data": str, "model": str, "density": float, "epochs": int, "method": str, "sup_tickets": bool}
IN_TITLE = {"edst": "EDST", "snapshot": "Snapshot", "fge": "FGE", "rewind": "rewound (LTR)"}
TITLED = (*IN_TITLE, "distill", "ensemble")  # options that the title shows
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


@dataclass
class Group:
    """Runs that differ in nothing but the seed.

    Attributes:
        about: the options of ABOUT, then all others that change results and that the runs record.
    """

    about: dict[str, Any]
    runs: list[Member] = field(default_factory=list)

    @property
    def seeds(self) -> list[int]:
        return [run.seed for run in self.runs]

    @property
    def values(self) -> dict[str, list[float]]:
        """{column of the table: the number of every run}, of the columns that all runs have."""
        names = [name for name in self.runs[0].numbers if all(name in run.numbers for run in self.runs)]
        return {name: [run.numbers[name] for run in self.runs] for name in names}

    @property
    def title(self) -> str:
        """The regime as the papers print it, e.g. "RigL + Sup-tickets"."""
        name, options = self.about["method"], self.about
        title = METHODS[name].title if name in METHODS else name.capitalize()
        if options.get("width", 1) != 1:
            title = f"Small-{title}" if name == "dense" else f"{title}, width {options['width']:g}"
        swa = options.get("cycle_lr") == "swa" and options.get("growth") == "none"  # averages that explore nothing
        title += (" + SWA" if swa else " + Sup-tickets") * options["sup_tickets"]
        title += " + distillation" * ("distill" in options)
        parts = [title, *(what for option, what in IN_TITLE.items() if option in options)]
        parts += [f"ensemble of {options['ensemble']}"] if "ensemble" in options else []
        return ", ".join(parts)

    def names(self, options: Sequence[str]) -> list[str]:
        """What tells this group from others in print: title, sparsity, epochs and these other options."""
        sparsity = f"{100 * (1 - self.about['density']):.4g} %"
        return [self.title, sparsity, *(shown(self.about.get(name, "")) for name in ("epochs", *options))]

    def kind(self) -> list[Any]:
        """Groups of one kind have their other options shown, to tell them apart."""
        return [*(self.about[name] for name in ABOUT), self.title]

    def rank(self) -> tuple[Any, ...]:
        """Every method beside itself with Sup-tickets, the methods in the papers' order after the dense network."""
        data, model, density, epochs, method, sup, *others = self.about.values()
        order = list(METHODS).index(method) if method in METHODS else -1
        average = str(self.about.get("superpose"))
        return data, model, -density, epochs, order, method, sup, self.title, average, repr(others)
