"""Runs that the tests of this room share."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.outcomes import outcome
from tests.tiny import main


@pytest.fixture(scope="session")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., dict[str, Any]]:
    """The outcome of a run that nothing cuts."""
    outcomes: dict[tuple[str, ...], dict[str, Any]] = {}

    def run(*options: str) -> dict[str, Any]:
        if options not in outcomes:
            folder = tmp_path_factory.mktemp("straight")
            assert main(folder, *options)[0] == 0
            outcomes[options] = outcome(folder)
        return outcomes[options]

    return run
