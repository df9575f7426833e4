"""What the scripts in launch/ would run."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

from utils.command_line.options import CifarOptions, ImageNetOptions, Options
from utils.command_line.parser import parse

REPOSITORY = Path(__file__).parent.parent
LAUNCH = REPOSITORY / "launch"
PROGRAMS = {"main_cifar.py": CifarOptions, "main_imagenet.py": ImageNetOptions}


def bash(*words: object, status: int = 0) -> str:
    """What it says, in the environment of the tests."""
    env = {**os.environ, "SUP_TICKETS_PYTHON": sys.executable, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(["bash", *map(str, words)], capture_output=True, text=True, cwd=REPOSITORY, env=env)
    assert done.returncode == status, done.stdout + done.stderr
    assert not done.stderr or "--dry-run" not in words
    return done.stdout


def commands(script: str, *options: str) -> list[list[str]]:
    """What the script would run."""
    return [shlex.split(line) for line in bash(LAUNCH / script, "--dry-run", *options).splitlines()]


def trained(lines: list[list[str]]) -> list[Options]:
    """The options of every run, parsed as its script does."""
    return [parse(PROGRAMS[line[1]], "", line[2:]) for line in lines if line[1] in PROGRAMS]
