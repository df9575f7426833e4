"""What an evaluation comes to, and how its numbers are shown in a table."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

from utils.training.metrics import METRICS

Block = Mapping[str, object]  # what an evaluation of one predictor comes to, as JSON


@dataclass(frozen=True)
class Column:
    """Title, and digits and unit of a number."""

    title: str
    better: Literal["higher", "lower"]
    digits: int
    unit: str = ""

    def text(self, value: float) -> str:
        return f"{value:.{self.digits}f}{self.unit}"


class Columns(Protocol):
    """Those of the numbers in a block."""

    def named(self, name: str) -> Column | None:
        """Of the number of this name; None: tables do not show it."""

    def titled(self, title: str) -> Column | None:
        """The one of this title."""


@dataclass(frozen=True)
class FixedColumns:
    """Columns that are known: {name: column}."""

    columns: Mapping[str, Column]

    def named(self, name: str) -> Column | None:
        return self.columns.get(name)

    def titled(self, title: str) -> Column | None:
        return next((own for own in self.columns.values() if own.title == title), None)


@dataclass(frozen=True)
class AnyColumns:
    """A column for a number of any name, which follows on a word in its title."""

    word: str
    better: Literal["higher", "lower"]
    digits: int

    def named(self, name: str) -> Column:
        return Column(f"{self.word} {name}", self.better, self.digits)

    def titled(self, title: str) -> Column | None:
        word, _, name = title.partition(" ")
        return self.named(name) if word == self.word else None


def metrics_columns(letter: str) -> FixedColumns:
    """Of METRICS on other images, as FreeTickets names them: cAcc, cNLL, cECE."""
    titles = {"accuracy": "Acc", "nll": "NLL", "ece": "ECE"}
    rows = {name: METRICS[name] for name in titles}
    return FixedColumns({name: Column(letter + titles[name], m.better, m.digits, m.unit) for name, m in rows.items()})
