"""The commands of the repository, called in this process."""

import contextlib
import io
from collections.abc import Callable, Sequence

import pytest


def refused_by(main: Callable[[Sequence[str]], object], *words: object) -> str:
    """The one line on stderr with which a command ends, with status 2; it has printed nothing."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as stop:
        main([*map(str, words)])
    line = err.getvalue()
    assert (stop.value.code, out.getvalue()) == (2, "")
    assert line.endswith("\n") and line.count("\n") == 1 and "Traceback" not in line
    return line
