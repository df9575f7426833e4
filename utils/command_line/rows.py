"""An option is a row: a field of a dataclass that says all there is to say about it; a group of options is a dataclass.

What the command line takes, --help shows, `parse` refuses and a run records is read from these rows alone.
"""

import dataclasses
import math
from collections.abc import Callable, Collection, Mapping
from typing import Any, ClassVar, Literal, NamedTuple, Self, TypeAlias, TypeVar

T = TypeVar("T")
Setting: TypeAlias = str | float | bool | list[str | float] | None  # the value of an option in a YAML file


class Range(NamedTuple):
    """The numbers that an option may be. NaN fits nowhere: every comparison with it is false."""

    fits: Callable[[float], bool]
    words: str
    most: float = math.inf  # far beyond any use, and refused before anything is made of that size

    def refusal(self, value: float) -> str:
        """What the number is not, e.g. "in (0, 1]"; empty where it fits."""
        return self.words if not self.fits(value) else f"{self.most:,} or less" if value > self.most else ""


def count(most: int) -> Range:
    return Range(lambda v: v >= 1, "a positive number", most)


def positive(most: float = math.inf) -> Range:
    return Range(lambda v: 0 < v < math.inf, "a positive number", most)


def not_negative(most: float) -> Range:
    return Range(lambda v: 0 <= v < math.inf, "zero or a positive number", most)


OPEN = Range(lambda v: 0 < v < 1, "in (0, 1)")
FROM_0 = Range(lambda v: 0 <= v < 1, "in [0, 1)")
TO_1 = Range(lambda v: 0 < v <= 1, "in (0, 1]")
CLOSED = Range(lambda v: 0 <= v <= 1, "in [0, 1]")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """What there is to say about an option beside its name, type and default.

    Attributes:
        help: for --help; the default is added to it.
        metavar: what stands for the value there.
        choices: the words that it may be.
        fits: the numbers that it, or each of several, may be.
        read: makes the value of a word; None: the type in the annotation does.
        derive: makes the value of the other options where it is not given.
        needs: switches, or options and their values, as "bn recompute"; without one of them this does nothing and is
            refused.
        only: {another option: those of its values with which this one does anything}.
        idle: {a switch with which it does nothing: why, as "whose learning rate is its own"}.
        brings: of a switch: the defaults of other options that it changes.
        changes: what another value changes: "results"; how a batch is cut into "parts"; or "nothing" in a run.
        recorded: does it stand in args.yaml?
        positional: is it given without its name, and perhaps several times?
        alone: its value where the name is given without one.
    """

    help: str
    metavar: str | tuple[str, ...] | None = None
    choices: Collection[str] | None = None
    fits: Range | None = None
    read: Callable[[str], object] | None = None
    derive: Callable[["Group"], object] | None = None
    needs: tuple[str, ...] = ()
    only: Mapping[str, Collection[str]] = dataclasses.field(default_factory=dict)
    idle: Mapping[str, str] = dataclasses.field(default_factory=dict)
    brings: Mapping[str, object] = dataclasses.field(default_factory=dict)
    changes: Literal["results", "parts", "nothing"] = "results"
    recorded: bool = True
    positional: bool = False
    alone: object = None


# `about` are the attributes of a row, which Row itself checks; a field has no type that is also that of its values
def option(default: T, help: str, **about: Any) -> T:  # type: ignore[explicit-any]
    """A field of a group: its default and its row, whose attributes are `about`."""
    return dataclasses.field(default=default, metadata={"row": Row(help=help, **about)})


def derived(derive: Callable[..., T], help: str, **about: Any) -> T:  # type: ignore[explicit-any]
    """An option that is made of the others where it is not given."""
    return option(None, help, derive=derive, **about)  # type: ignore[return-value]


def required(help: str, **about: Any) -> Any:  # type: ignore[explicit-any]
    """An option that must be given."""
    return dataclasses.field(metadata={"row": Row(help=help, **about)})


def with_options(options: Mapping[str, float]) -> Callable[[type[T]], type[T]]:
    """Before @dataclass: adds numbers to a group, {name: option(...)}, that are known from a table."""

    def add(kind: type[T]) -> type[T]:
        for name, field in options.items():
            kind.__annotations__[name] = float
            setattr(kind, name, field)
        return kind

    return add


class Group:
    """The base of all groups. The docstring of one is its title, a colon, and the sentence that introduces it.

    A class that extends a group adds to it, and one that extends several puts them together; it may change the default
    of a row by a plain assignment, or the whole row by another.

    Attributes:
        program: what is typed to start the program that has these options.
    """

    program: ClassVar[str] = ""

    def __post_init__(self) -> None:
        for name, row in rows(type(self)).items():
            if row.derive is not None and getattr(self, name) is None:
                object.__setattr__(self, name, row.derive(self))

    def checked(self, given: Collection[str]) -> Self:
        """The options with what follows from several of them together.

        Args:
            given: the names of those that were given; the others are as by default.

        Raises:
            UsageError: they do not go together; the message names the remedy.
        """
        return self


def rows(kind: type[Group]) -> dict[str, Row]:
    """{name of an option: its row}, group by group in the order of --help."""
    return {name: row for group in groups(kind).values() for name, row in group.items()}


def groups(kind: type[Group]) -> dict[type[Group], dict[str, Row]]:
    """The rows of each group that `kind` puts together."""
    found: dict[type[Group], dict[str, Row]] = {cls: {} for cls in kind.__mro__ if Group in cls.__bases__}
    for cls in reversed(kind.__mro__):
        own = [group for group in found if issubclass(cls, group)]
        if len(own) == 1:
            found[own[0]] |= {name: _row(kind, name) for name in cls.__annotations__}
    return found


def _row(kind: type[Group], name: str) -> Row:
    fields = (vars(cls).get("__dataclass_fields__", {}).get(name) for cls in kind.__mro__)
    return next(field.metadata["row"] for field in fields if field is not None and "row" in field.metadata)


def defaults(kind: type[Group]) -> dict[str, object]:
    """{name: default}; None for what is derived from other options, nothing for what must be given."""
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    return {name: fields[name].default for name in rows(kind) if fields[name].default is not dataclasses.MISSING}


def does_nothing(row: Row, options: Group) -> str:
    """Why an option does nothing among the others, e.g. "without --sparse: add ..."; empty where it does something."""
    if row.needs and not any(is_on(options, need) for need in row.needs):
        owners = " or ".join(map(flag, row.needs))
        return f"without {owners}: add {owners}, or leave it out"
    for other, values in row.only.items():
        if (value := getattr(options, other)) not in values:
            return f"with {flag(other)} {value}: it is for {' and '.join(values)}"
    return next((f"with {flag(switch)}, {why}" for switch, why in row.idle.items() if getattr(options, switch)), "")


def is_on(options: Group, need: str) -> bool:
    """Is a switch on, or the value given; or, of "bn recompute", has the option this value?"""
    name, _, value = need.partition(" ")
    return getattr(options, name) == value if value else bool(getattr(options, name))


def flag(name: str) -> str:
    """The option as it is typed."""
    return "--" + name.replace("_", "-")


def shown(value: object) -> str:
    """An option's value as it would be typed."""
    return " ".join(map(str, value)) if isinstance(value, tuple | list) else str(value)
