"""Finished runs, and the command on their tickets."""

import contextlib
import io
import json
from unittest import mock

import pytest
from safetensors import safe_open
from safetensors.torch import load_file

import main_cifar
import utils.superpose
from models import MODELS
from tests.commands import refused_by, run_command
from tests.scripts import run_script
from tests.superpose.runs import RUNS, Finished, Small, Superposed
from tests.tiny import tiny_world
from utils.data.cifar import load_cifar
from utils.superpose import main


@pytest.fixture(scope="package", autouse=True)
def small():
    with mock.patch.dict(MODELS, small=Small):
        yield


@pytest.fixture(scope="package")
def finished(tmp_path_factory):
    """Call it with a name of RUNS: returns the finished run, trained once on digits."""
    done: dict[str, Finished] = {}

    def run(name: str) -> Finished:
        if name not in done:
            done[name] = Finished(tmp_path_factory.mktemp("runs") / name)
            words = f"--data digits --model small {RUNS[name]} --output-dir {done[name].folder}"
            with (
                tiny_world(),
                mock.patch.object(main_cifar, "load_cifar", load_cifar),
                contextlib.redirect_stdout(io.StringIO()),
            ):
                run_script(main_cifar, *words.split())
        return done[name]

    return run


@pytest.fixture
def superpose(tmp_path, capsys):
    """Call it with a command line."""

    def call(*words: object) -> Superposed:
        output, numbers = tmp_path / "new.safetensors", tmp_path / "numbers.json"
        run_command(main, *words, "--output", output, "--overwrite", "--json", numbers)
        out, err = capsys.readouterr()
        with safe_open(output, "pt") as file:
            header = file.metadata()
        return Superposed(load_file(output), header, json.loads(numbers.read_text()), out.splitlines(), err)

    return call


@pytest.fixture
def refused(tmp_path, monkeypatch):
    """Call it with a command line that is wrong: returns the one line on stderr."""
    monkeypatch.chdir(tmp_path)

    def refuse(*words: object) -> str:
        before = sorted(tmp_path.iterdir())
        line = refused_by(main, *words)
        assert sorted(tmp_path.iterdir()) == before  # nothing written
        return line

    return refuse


@pytest.fixture
def no_data(monkeypatch):
    def load(*args: object, **options: object) -> None:
        raise AssertionError("data is read")

    monkeypatch.setattr(utils.superpose, "load_cifar", load)
