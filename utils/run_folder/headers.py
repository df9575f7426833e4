"""The headers of tickets, parsed: which run a ticket comes from, and where several tickets agree."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from models.ensembles import Ensemble
from sparselearning.errors import UsageError
from sparselearning.tickets import read_header
from utils.data.recipes import RECIPES, Preprocessing

T = TypeVar("T")


def _whole(text: str) -> int:
    return int(float(text))


def _numbers(text: str) -> tuple[float, ...]:
    return tuple(map(float, text.split()))


@dataclass(frozen=True)
class TicketHeader:
    """The header of a ticket: options of the run that it comes from; None where the header lacks the entry."""

    data: str | None = None
    model: str | None = None
    width: float | None = None
    efficient_ensemble: Ensemble | None = None
    density: float | None = None
    exempt: str | None = None
    seed: int | None = None
    epochs: int | None = None
    limit_train: int | None = None
    valid_fraction: float | None = None
    image_size: int | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    flip: str | None = None
    label_column: str | None = None
    phase: str | None = None

    @property
    def training_part(self) -> tuple[int | None, float | None]:
        """(limit_train, valid_fraction), which together tell the images that its run was trained on."""
        return self.limit_train, self.valid_fraction


def parse_header(path: Path) -> TicketHeader:
    """Raises UsageError where a ticket cannot be read, or a number in its header is none."""
    said = read_header(path)

    def parsed(name: str, read: Callable[[str], T]) -> T | None:
        try:
            return read(said[name]) if name in said else None
        except UsageError as error:
            raise UsageError(f"{path}: {error}") from error
        except ValueError as error:
            raise UsageError(f"{path} says that its {name} is {said[name]!r}, which is no number") from error

    return TicketHeader(
        data=said.get("data"),
        model=said.get("model"),
        width=parsed("width", float),
        efficient_ensemble=parsed("efficient_ensemble", Ensemble.read),
        density=parsed("density", float),
        exempt=said.get("exempt"),
        seed=parsed("seed", _whole),
        epochs=parsed("epochs", _whole),
        limit_train=parsed("limit_train", _whole),
        valid_fraction=parsed("valid_fraction", float),
        image_size=parsed("image_size", _whole),
        mean=parsed("mean", _numbers),
        std=parsed("std", _numbers),
        flip=said.get("flip"),
        label_column=said.get("label_column"),
        phase=said.get("phase"),
    )


def agreed(name: str, said: Iterable[T | None], given: T | None = None) -> T | None:
    """The value of the option where it is given, else that in the headers. Raises UsageError where they disagree."""
    if given is not None:
        return given
    values = sorted({value for value in said if value is not None}, key=str)
    if len(values) > 1:
        raise UsageError(f"the tickets have different {name}, {' and '.join(map(str, values))}: take those of one only")
    return values[0] if values else None


def required(name: str, said: str | None) -> str:
    """The value itself. Raises UsageError where neither the option nor a header has one."""
    if said is None:
        raise UsageError(f"a ticket does not say what {name} it is for: add --{name}")
    return said


def preprocessing_of(headers: Sequence[TicketHeader], data: str) -> Preprocessing:
    """How the images of the tickets were preprocessed, for `load_cifar`; None where older tickets lack it.

    Raises:
        UsageError: the headers disagree, or lack it and the data set is unknown.
    """
    mean = agreed("mean", [header.mean for header in headers])
    if data not in RECIPES and mean is None:
        raise UsageError(
            f"unknown --data {data}: it is none of {', '.join(RECIPES)}, and the tickets do not say how its images "
            f"come; large images are for main_imagenet.py --eval-only"
        )
    return Preprocessing(
        image_size=agreed("image_size", [header.image_size for header in headers]),
        mean=mean,
        std=agreed("std", [header.std for header in headers]),
        flip=agreed("flip", [header.flip for header in headers]),
        label_column=agreed("label_column", [header.label_column for header in headers]),
    )
