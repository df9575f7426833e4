"""For all tests: a thread for each of many small processes, set before torch is imported; and shared fixtures."""

import gc
import os
import signal
from functools import partial
from unittest import mock

os.environ.setdefault("OMP_NUM_THREADS", "1")
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell starts what is in the background so, and programs obey
    signal.signal(signal.SIGINT, signal.default_int_handler)

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


@pytest.fixture
def folder(tmp_path):
    """A run folder that someone put notes into; after the test no process is at work there."""
    path = tmp_path / "run"
    (path / "notes").mkdir(parents=True)
    (path / "notes" / "todo.txt").write_text("keep me")
    yield path
    release()


def pytest_collection_finish() -> None:
    """What is imported stays, so that the garbage collections of Accelerate and the trainers need not go through it."""
    gc.freeze()
