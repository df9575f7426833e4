"""The table of averages: how one more ticket is averaged in (Sup-tickets §3.2.2). To add an average, add its row."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from sparselearning.errors import UsageError, check_number, choose

if TYPE_CHECKING:
    from torch import Tensor

PRUNINGS = ("every", "last")  # after which averaging


class Taken(NamedTuple):
    """What a formula may know beside a tensor's average so far and the tensor of the new ticket.

    Attributes:
        tickets: t, how many have been taken, the new one included.
        active: N(k, j): how many tickets before the new one had each connection, int32 of its shape; None where the row
            does not count them, or the tensor is no maskable weight.
        parameters: of all formulas.
    """

    tickets: int
    active: Tensor | None
    parameters: Mapping[str, float]


def cia(average: Tensor, new: Tensor, taken: Taken) -> Tensor:
    """Connection independent averaging, Eq. 4: θ̃ᵗ = ((t − 1)·θ̃ᵗ⁻¹ + θᵗ) / t; absent connections count as 0."""
    t = taken.tickets
    return ((t - 1) * average + new) / t


def caa(average: Tensor, new: Tensor, taken: Taken) -> Tensor:
    """Connection aware averaging: the sum over the tickets divided by N(k, j), the times a connection was active."""
    if taken.active is None:
        return cia(average, new, taken)
    return (taken.active * average + new) / (taken.active + (new != 0)).clamp(min=1)


def cima(average: Tensor, new: Tensor, taken: Taken) -> Tensor:
    """Connection independent moving averaging: θ̃ᵗ = β·θ̃ᵗ⁻¹ + (1 − β)·θᵗ; a larger β favors the early tickets."""
    beta = taken.parameters["beta"]
    return beta * average + (1 - beta) * new


class Parameter(NamedTuple):
    """A number in a formula.

    Attributes:
        default: what it is where none is given.
        fits: may it be this number?
        words: which numbers it may be.
        meaning: what it is.
    """

    default: float
    fits: Callable[[float], bool]
    words: str
    meaning: str


class Average(NamedTuple):
    """A row of AVERAGES.

    Attributes:
        formula: the new average of a tensor, from its average so far, the tensor of the new ticket, and `Taken`.
        parameters: of the formula, by names that no other row has.
        counts: does the formula need to know how often each connection was active?
    """

    formula: Callable[[Tensor, Tensor, Taken], Tensor]
    parameters: Mapping[str, Parameter] = {}
    counts: bool = False


BETA = Parameter(0.8, lambda beta: 0 <= beta < 1, "in [0, 1)", "weight of the tickets before the newest")
AVERAGES = {
    "cia": Average(cia),
    "caa": Average(caa, counts=True),
    "cima": Average(cima, {"beta": BETA}),
}


# {name of a parameter: its row of AVERAGES, and what is to be said of it}
PARAMETERS = {name: (method, row) for method, average in AVERAGES.items() for name, row in average.parameters.items()}


def option_name(parameter: str) -> str:
    """What a parameter is called where those of all averages stand together, e.g. cima_beta."""
    method, _ = PARAMETERS[parameter]
    return f"{method}_{parameter}"


def parameters(given: Mapping[str, float]) -> dict[str, float]:
    """All PARAMETERS, as given or else by default.

    Raises:
        UsageError: there is none of this name, or it cannot be this number.
    """
    for name, value in given.items():
        _, row = choose("the parameter", name, PARAMETERS)
        check_number(option_name(name), value)
        if not row.fits(value):
            raise UsageError(f"{option_name(name)} {value:g} is not {row.words}: it is the {row.meaning}")
    return {name: given.get(name, row.default) for name, (_, row) in PARAMETERS.items()}
