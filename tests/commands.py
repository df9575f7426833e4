"""The commands of the repository, called in this process."""

import contextlib
import io
from collections.abc import Callable
from typing import Any, get_type_hints

import pytest

from utils.command_line.parser import parse

Command = Callable[[Any], object]  # the `main` of one, which takes its options


def run_command(main: Command, *words: object) -> None:
    """What `python -m utils.NAME WORDS` does."""
    main(parse(get_type_hints(main)["options"], "", [*map(str, words)]))


def refused_by(main: Command, *words: object) -> str:
    """The one line on stderr with which a command ends, with status 2; it has printed nothing."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as stop:
        run_command(main, *words)
    line = err.getvalue()
    assert (stop.value.code, out.getvalue()) == (2, "")
    assert line.endswith("\n") and line.count("\n") == 1 and "Traceback" not in line
    return line
