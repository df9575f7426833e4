"""From a command line to frozen options: `--config`, defaults, and what does not fit together."""

import argparse
import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, NoReturn, TypeVar, get_args, get_origin, get_type_hints

from sparselearning.errors import UsageError
from utils.command_line.config import config_words
from utils.command_line.rows import Group, Row, defaults, does_nothing, flag, groups, rows, shown

G = TypeVar("G", bound=Group)


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


class Help(argparse.RawDescriptionHelpFormatter):
    """Wide enough for the longest option; the examples of a description keep their lines."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=34, width=110)


def parse(kind: type[G], description: str | None, argv: Sequence[str] | None = None) -> G:
    """Defaults, then the `--config` file, then the command line.

    Exits with status 2 and one line on stderr when an option is unknown, has no such value or does nothing.
    """
    parser = build_parser(kind, description or "")
    given = _words(parser, argv)
    try:
        if "config" in given:
            given = _words(parser, config_words(parser._actions, Path(given["config"]))) | given
        values = defaults(kind)
        for name, row in rows(kind).items():
            values |= row.brings if given.get(name) else {}
        options = kind(**{**values, **given})
        check(options, given)
        return options.checked(given)
    except UsageError as error:
        parser.error(str(error))


def _words(parser: Parser, argv: Sequence[str] | None) -> dict[str, Any]:
    """What is given, by name."""
    given = vars(parser.parse_args(argv))
    return {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}


def check(options: Group, given: Collection[str]) -> None:
    """Refuse options that would do nothing and numbers that mean nothing.

    Raises:
        UsageError: names the option and the remedy.
    """
    known = rows(type(options))
    for name in known:
        if name in given and (why := does_nothing(options, name)):
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
    parser = Parser(
        prog=Path(sys.argv[0]).name,
        usage="%(prog)s [--option VALUE ...]",
        description=description.strip(),
        formatter_class=Help,
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
        add_help=False,
    )
    types, values = get_type_hints(kind), defaults(kind)
    for cls, options in groups(kind).items():
        title, _, intro = (cls.__doc__ or "").partition(": ")
        group = parser.add_argument_group(title, intro)
        for name, row in options.items():
            default = values.get(name)
            added = "" if default in (None, False, ()) else f" ({shown(default)})"
            group.add_argument(flag(name), **_settings(types[name], row), help=row.help + added)
    group.add_argument("--help", "-h", action="help", help="show this and exit")
    return parser


def _settings(annotation: Any, row: Row) -> dict[str, Any]:
    """What argparse is told of an option."""
    if annotation is bool:
        return {"action": "store_true"}
    if get_origin(annotation) is UnionType:  # X | None
        (annotation,) = (part for part in get_args(annotation) if part is not NoneType)
    settings: dict[str, Any] = {"metavar": row.metavar, "choices": row.choices and list(row.choices)}
    if get_origin(annotation) is tuple:
        parts = get_args(annotation)
        annotation, settings["nargs"] = parts[0], "+" if parts[-1] is Ellipsis else len(parts)
    return {name: value for name, value in settings.items() if value} | {"type": row.read or annotation}
