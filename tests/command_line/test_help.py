"""--help teaches, and is there at once."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.command_line.lines import PROGRAMS
from utils.command_line.options import CifarOptions, ImageNetOptions, defaults
from utils.command_line.parser import build_parser, parse


def test_help_shows_groups_and_defaults(capsys):
    with pytest.raises(SystemExit) as stop:
        parse(CifarOptions, "What it does.", ["--help"])
    text = capsys.readouterr().out
    assert stop.value.code == 0 and "What it does." in text
    titles = ("data", "images", "model and optimizer", "sparse training", "Sup-tickets", "superposition",
              "ensembles", "run")  # fmt: skip
    positions = [text.index(f"\n{title}:\n  ") for title in titles]  # each with its introduction
    assert positions == sorted(positions)
    for action in build_parser(CifarOptions, "")._actions:
        default = defaults(CifarOptions).get(action.dest)
        if default not in (None, False, ()):
            shown = " ".join(map(str, default)) if isinstance(default, tuple) else default
            assert action.help.endswith(f"({shown})")


@pytest.mark.parametrize("kind", [CifarOptions, ImageNetOptions])
def test_help_mentions_every_option_once(kind, capsys) -> None:
    with pytest.raises(SystemExit):
        parse(kind, "", ["--help"])
    starts = [line.split()[0] for line in capsys.readouterr().out.splitlines() if line.startswith("  --")]
    assert sorted(starts) == sorted(["--help,", *(f"--{name.replace('_', '-')}" for name in defaults(kind))])


REPOSITORY = Path(__file__).parents[2]
SLOW = {"torch", "numpy", "scipy", "matplotlib", "accelerate", "datasets", "safetensors", "PIL"}


def start(program: str, *words: str) -> tuple[int, str, str, set[str]]:
    """Status, output and errors of a program, and the packages that it has imported."""
    command = [sys.executable, "-X", "importtime", *program.split(), *words]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    lines = done.stderr.splitlines()
    imported = {line.split("|")[-1].strip().split(".")[0] for line in lines if line.startswith("import time:")}
    said = "\n".join(line for line in lines if not line.startswith("import time:"))
    return done.returncode, done.stdout, said, imported


@pytest.mark.parametrize("program", PROGRAMS)
def test_help_is_there_before_what_takes_seconds_and_shows_the_examples(program):
    status, out, said, imported = start(program, "--help")
    assert (status, said) == (0, "") and not SLOW & imported
    usage, empty, *rest = out.splitlines()
    assert usage.startswith(f"usage: {'python ' * program.startswith('-m')}{program} ") and empty == ""
    file = program.removeprefix("-m ").replace(".", "/").removesuffix("/py") + ".py"
    told = ast.get_docstring(ast.parse((REPOSITORY / file).read_text())).splitlines()
    assert rest[: len(told)] == told
    assert rest[len(told)] == "" and rest[len(told) + 1].endswith(":") and not rest[len(told) + 1].startswith("options")


@pytest.mark.parametrize(("program", "needed"), PROGRAMS.items())
def test_a_mistyped_option_is_answered_before_what_takes_seconds(program, needed):
    status, out, said, imported = start(program, *needed.split(), "--nosuch", "1")
    assert (status, out) == (2, "") and "\n" not in said and not SLOW & imported
    assert "unrecognized arguments: --nosuch" in said
