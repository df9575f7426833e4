"""What the scripts in launch/ would run, and the scripts at work."""

import contextlib
import json
import os
import runpy
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.processes import start
from utils.command_line.options import CifarOptions, ImageNetOptions, Options
from utils.command_line.parser import parse

REPOSITORY = Path(__file__).parent.parent
LAUNCH = REPOSITORY / "launch"
PROGRAMS = {"main_cifar.py": CifarOptions, "main_imagenet.py": ImageNetOptions}


def bash(*words: object, status: int = 0, **environment: str) -> str:
    """What it says, in the environment of the tests."""
    env = {**os.environ, "SUP_TICKETS_PYTHON": sys.executable, "CUDA_VISIBLE_DEVICES": "", **environment}
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


# ---- programs that start at once -----------------------------------------------------------------------------------


@contextlib.contextmanager
def forked_programs(folder: Path) -> Iterator[dict[str, str]]:
    """The environment in which the scripts' programs need not import anything, which takes seconds for each."""
    address, python = str(folder / "server"), Path(__file__).parent / "forked/python"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(address)
        server.listen()
        process = start(serve, server)
        yield {"SUP_TICKETS_PYTHON": str(python), "TESTS_PYTHON": sys.executable, "TESTS_SERVER": address}
        process.kill()
        process.join()


def serve(server: socket.socket) -> None:
    while True:
        connection, _ = server.accept()
        if os.fork() == 0:
            answer(connection)


def answer(connection: socket.socket) -> None:
    """Starts what tests/forked/python asks for; answers with the number of the process and, at its end, its status."""
    length, streams, _, _ = socket.recv_fds(connection, 4, 3)
    words, folder, environment = json.loads(connection.recv(int.from_bytes(length, "big"), socket.MSG_WAITALL))
    process = os.fork()
    if process:
        connection.sendall(b"%d\n" % process)
        _, status = os.waitpid(process, 0)
        connection.sendall(b"%d\n" % os.waitstatus_to_exitcode(status))
        os._exit(0)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    if words[0] == "-m":
        sys.argv = words[1:]
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = words
        runpy.run_path(words[0], run_name="__main__")
    sys.exit()
