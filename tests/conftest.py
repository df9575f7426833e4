"""For all tests: threads, signals and garbage; and fixtures that many use."""

import gc
import os
import signal
from collections.abc import Iterator
from functools import partial
from unittest import mock

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported: a thread for each of many small processes

import pytest
import yaml

from tests.commands import refused_by
from utils.command_line.options import CifarOptions
from utils.files.locks import release


@pytest.fixture(autouse=True, scope="session")
def impatient():
    """A worker that cannot hear that its loader has been given up is waited for, otherwise for five seconds."""
    with mock.patch("torch.utils.data._utils.MP_STATUS_CHECK_INTERVAL", 0.1):
        yield


@pytest.fixture
def refused():
    """Call it with a command line of main_cifar.py that is wrong: returns the one line on stderr."""

    def accept(options: CifarOptions) -> None:
        """Does nothing with them."""

    return partial(refused_by, accept)


@pytest.fixture
def config(tmp_path):
    """Call it with the options, or the text, of a config file: returns the command line that reads it."""

    def write(content: dict[str, object] | str) -> list[str]:
        path = tmp_path / "config.yaml"
        path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
        return ["--config", str(path)]

    return write


@pytest.fixture(autouse=True)
def environment() -> Iterator[None]:
    """Whatever sets variables, as launchers and trainers do, sets them for its own test alone."""
    with mock.patch.dict(os.environ):
        yield


@pytest.fixture
def folder(tmp_path):
    """A run folder that someone put notes into; after the test no process is at work there."""
    path = tmp_path / "run"
    (path / "notes").mkdir(parents=True)
    (path / "notes" / "todo.txt").write_text("keep me")
    yield path
    release()


def pytest_configure() -> None:
    """In the background and under nohup signals are ignored, and would be by all programs that the tests start."""
    for number in (signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda *_: None)  # which they do not inherit


def pytest_collection_finish() -> None:
    """What is imported stays, so that the garbage collections of Accelerate and the trainers need not go through it."""
    gc.freeze()
