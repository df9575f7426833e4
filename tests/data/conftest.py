"""No test of data writes into the user's cache; and folders to stream from."""

from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import datasets
import pytest

import utils.data.stream
from tests.data.streams import write_stream
from utils.data.stream import local_permutation


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with mock.patch.object(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache")):
        yield


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """By their number of parquet files per split."""
    return {shards: write_stream(tmp_path_factory.mktemp("shards") / "of", shards) for shards in (1, 3, 5, 7)}


@pytest.fixture
def narrow() -> Iterator[None]:
    """So few images are shuffled together that a queue has several such sets."""
    with mock.patch.object(utils.data.stream, "MIXED", (2, 1)):
        local_permutation.cache_clear()
        yield
        local_permutation.cache_clear()
