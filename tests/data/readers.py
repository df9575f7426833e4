"""The loaders as the tests of data call them: small images, large ones, and streams."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor

from sparselearning.errors import UsageError
from utils.data.cifar import load_cifar
from utils.data.imagenet import load_imagenet
from utils.data.protocol import Splits

CPU = torch.device("cpu")


def small(folder: Path | str | None, data: str = "cifar10", **options: Any) -> Splits:
    return load_cifar(data, None if folder is None else str(folder), "cpu", **options)


def large(folder: Path | None, data: str = "any", **options: Any) -> Splits:
    options = {"image_size": 16, "batch_size": 4, "workers": 0, **options}
    return load_imagenet(data, None if folder is None else str(folder), CPU, **options)


def stream(folder: Path | None, world: int = 1, **options: Any) -> Splits:
    """As each of `world` processes sees it."""
    with mock.patch.dict(os.environ, WORLD_SIZE=str(world)):
        return large(folder, **{"image_size": 8, "batch_size": 3, "streaming": True, **options})


def streamed(folder: Path, **options: Any) -> Splits:
    """With all training labels read."""
    data = stream(folder, **options)
    data.train.clean_batch(0, len(data.train))
    return data


READERS = [small, large, streamed]
every_reader = pytest.mark.parametrize("read", READERS)


def refused(says: str, read: Callable[..., object], *args: object, **options: object) -> None:
    """The call ends in one line that matches."""
    with pytest.raises(UsageError, match=says) as error:
        read(*args, **options)
    assert "\n" not in str(error.value)


def whole(batches: Iterator[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    images, labels = zip(*batches, strict=True)
    return torch.cat(images), torch.cat(labels)


def equal(a: tuple[Tensor, Tensor], b: tuple[Tensor, Tensor]) -> bool:
    return torch.equal(a[0], b[0]) and torch.equal(a[1], b[1])
