"""From a command line to frozen options: `--config`, defaults, and what does not fit together."""

import argparse
import difflib
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Literal, NoReturn, TypeVar, get_args, get_origin, get_type_hints

from sparselearning.errors import UsageError
from utils.command_line.config import config_words
from utils.command_line.paths import file_path
from utils.command_line.rows import Group, Row, defaults, does_nothing, flag, groups, rows, shown

G = TypeVar("G", bound=Group)


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")

    def given(self, words: Sequence[str] | None) -> dict[str, object]:
        """{name: value} of the options that are given; those in the file `--config` come before the others.

        Raises:
            UsageError: the file cannot be read, or says what is no option.
        """
        known, unknown = self.parse_known_args(words)
        if unknown:
            names = [name.removeprefix("--") for name in self._option_string_actions]
            near = difflib.get_close_matches(unknown[0].removeprefix("--"), names, 1)
            hint = f", did you mean --{near[0]}?" if near else ""
            self.error(f"unrecognized arguments: {' '.join(unknown)}{hint}")
        given = self.given(config_words(self._actions, Path(known.config))) if "config" in known else {}
        return given | {name: tuple(value) if isinstance(value, list) else value for name, value in vars(known).items()}


class Help(argparse.RawDescriptionHelpFormatter):
    """Wide enough for the longest option; the examples of a description keep their lines."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=34, width=110)


def parse(kind: type[G], description: str | None, argv: Sequence[str] | None = None) -> G:
    """Defaults, then the `--config` file, then the command line.

    Exits with status 2 and one line on stderr when an option is unknown, has no such value or does nothing.
    """
    parser = build_parser(kind, description or "")
    try:
        given = parser.given(argv)
        values = defaults(kind)
        for name, row in rows(kind).items():
            values |= row.brings if given.get(name) else {}
        options = kind(**{**values, **given})
        check(options, given)
        return options.checked(given)
    except UsageError as error:
        parser.error(str(error))


def check(options: Group, given: Collection[str]) -> None:
    """Refuse options that would do nothing and numbers that mean nothing.

    Raises:
        UsageError: names the option and the remedy.
    """
    known = rows(type(options))
    for name, row in known.items():
        if name in given and (why := does_nothing(row, options)):
            raise UsageError(f"{flag(name)} does nothing {why}")
    for name, row in known.items():
        value = getattr(options, name)
        if row.fits is None or value is None:
            continue
        for number in value if isinstance(value, tuple) else (value,):
            if refusal := row.fits.refusal(number):
                raise UsageError(f"{flag(name)} {shown(value):.60} is not {refusal}")


def build_parser(kind: type[Group], description: str) -> Parser:
    """All groups; defaults are shown and stay out of the namespace, to tell what was given."""
    types, values = get_type_hints(kind), defaults(kind)
    parser = Parser(
        prog=kind.program,
        usage=" ".join(("%(prog)s", *_needed(kind, values), "[--option VALUE ...]")),
        description=description.strip(),
        formatter_class=Help,
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
        add_help=False,
    )
    for cls, options in groups(kind).items():
        title, _, intro = (cls.__doc__ or "").partition(": ")
        group = parser.add_argument_group(title, intro)
        for name, row in options.items():
            required = name not in values
            default = values.get(name)
            added = "" if default in (None, False, ()) else f" ({shown(default)})"
            group.add_argument(
                name if row.positional else flag(name),
                **_settings(types[name], row, required),  # type: ignore[arg-type]  # each of a type of its own
                help=row.help + added,
            )
    group.add_argument("--help", "-h", action="help", help="show this and exit")
    return parser


def _needed(kind: type[Group], values: Collection[str]) -> Iterator[str]:
    """What stands in the usage: what must be given, and what has no name of its own."""
    for name, row in rows(kind).items():
        words = f"{row.metavar} ..." if row.positional else f"{flag(name)} {row.metavar} ..."
        if name not in values:
            yield words
        elif row.positional:
            yield f"[{words}]"


def _settings(annotation: object, row: Row, required: bool) -> dict[str, object]:
    """What argparse is told of an option."""
    if annotation is bool:
        return {"action": "store_true"}
    if get_origin(annotation) is UnionType:  # X | None
        (annotation,) = (part for part in get_args(annotation) if part is not NoneType)
    settings: dict[str, object] = {"metavar": row.metavar, "choices": row.choices and list(row.choices)}
    if get_origin(annotation) is tuple:
        parts = get_args(annotation)
        several = "+" if required or not row.positional else "*"
        annotation, settings["nargs"] = parts[0], several if parts[-1] is Ellipsis else len(parts)
    if row.alone is not None:
        settings["nargs"], settings["const"] = "?", row.alone
    if get_origin(annotation) is Literal:
        annotation, settings["choices"] = str, list(get_args(annotation))
    settings["type"] = row.read or (file_path if annotation is Path else annotation)
    settings["required"] = required and not row.positional
    return {name: value for name, value in settings.items() if value}
