"""Both entry scripts tell the same story, each by itself."""

import inspect
from types import ModuleType

import pytest

import main_cifar
import main_imagenet

SCRIPTS = pytest.mark.parametrize("script", [main_cifar, main_imagenet], ids=lambda script: script.__name__)


def test_algorithm_1_is_the_same_in_both() -> None:
    """It is told twice, for who reads one of them; data and models are what they differ in."""
    assert inspect.getsource(main_cifar.algorithm_1) == inspect.getsource(main_imagenet.algorithm_1)


@SCRIPTS
def test_a_script_is_short_and_does_not_read_the_other(script: ModuleType) -> None:
    source = inspect.getsource(script)
    other = {main_cifar: "main_imagenet", main_imagenet: "main_cifar"}[script]
    assert len(source.splitlines()) <= 130
    assert f"import {other}" not in source and f"from {other}" not in source
