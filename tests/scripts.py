"""The entry scripts, started in this process."""

import contextlib
import io
import sys
from types import ModuleType
from unittest import mock

import main_cifar
import main_imagenet
from utils.command_line.errors import one_line_errors
from utils.command_line.options import CifarOptions, ImageNetOptions
from utils.command_line.parser import parse

KINDS = {main_cifar: CifarOptions, main_imagenet: ImageNetOptions}


def run_script(script: ModuleType, *words: str) -> None:
    """What `python SCRIPT.py WORDS` does."""
    with mock.patch.object(sys, "argv", [f"{script.__name__}.py", *words]), one_line_errors():
        script.main(parse(KINDS[script], script.__doc__))


def end_of(script: ModuleType, *words: str) -> tuple[int, str, str]:
    """Likewise; its exit status, and what it wrote on stdout and stderr."""
    out, err, status = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            run_script(script, *words)
        except SystemExit as end:
            status = int(end.code or 0)
    return status, out.getvalue(), err.getvalue()
