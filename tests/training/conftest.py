"""Runs that the tests of this room share."""

import pytest

from tests.training.regimes import Runs


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return Runs(tmp_path_factory.mktemp("finished"))
