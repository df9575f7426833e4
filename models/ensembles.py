"""The efficient ensembles by name: networks that make several predictions at less than the cost of several networks.

Only their names and settings are here, for the command line; `models.members` makes the networks, of any other network.
"""

from __future__ import annotations

from dataclasses import dataclass

from sparselearning.errors import UsageError


@dataclass(frozen=True)
class Kind:
    """A row of ENSEMBLES.

    Attributes:
        title: as the papers print it.
        members: how many there are unless another number is given.
        repetitions: how often an image comes in a batch of training, unless given; None: once for each member.
        number: the name of the option that one more number comes from, where the network has one.
    """

    title: str
    members: int
    repetitions: int | None
    number: str | None = None


ENSEMBLES = {
    "mc-dropout": Kind("Monte Carlo dropout", members=10, repetitions=1, number="dropout"),
    "batchensemble": Kind("BatchEnsemble", members=4, repetitions=None),
    "mimo": Kind("MIMO", members=3, repetitions=4, number="input_repetition"),
    "treenet": Kind("TreeNet", members=3, repetitions=1, number="shared"),
}


@dataclass(frozen=True)
class Ensemble:
    """Which efficient ensemble is made of a network. As text, e.g. "treenet 3 0.75", it stands in the ticket's header.

    Attributes:
        kind: a row of ENSEMBLES.
        members: M, at least 1.
        number: that of `Kind.number`.
    """

    kind: str
    members: int
    number: float | None = None

    def __str__(self) -> str:
        numbers = () if self.number is None else (str(self.number),)
        return " ".join((self.kind, str(self.members), *numbers))

    @property
    def title(self) -> str:
        """E.g. "MIMO of 3"."""
        return f"{ENSEMBLES[self.kind].title} of {self.members}"

    @property
    def value(self) -> float:
        """`number`, of a kind that has one."""
        assert self.number is not None
        return self.number

    @classmethod
    def read(cls, text: str) -> Ensemble:
        """From its text. Raises UsageError where that is none."""
        try:
            kind, members, *numbers = text.split()
            ensemble = cls(kind, int(members), *map(float, numbers))
            if (ENSEMBLES[kind].number is None) != (ensemble.number is None) or ensemble.members < 1:
                raise ValueError(text)
        except (KeyError, TypeError, ValueError) as error:
            raise UsageError(f"{text!r} is no efficient ensemble, such as 'mimo 3 0.0' or 'batchensemble 4'") from error
        return ensemble
