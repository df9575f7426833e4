"""Classifiers of torchvision, by name."""

import pytest
import torch

from models.classifiers import build
from sparselearning.errors import UsageError


@pytest.mark.parametrize("name", ["resnet18", "squeezenet1_1", "mnasnet0_5"])
def test_classifiers_of_torchvision(name: str) -> None:
    model = build(name, 7, 64)
    assert model.training and model(torch.zeros(2, 3, 64, 64)).shape == (2, 7)


@pytest.mark.parametrize(
    ("name", "size", "says"), [("resnt50", 224, "did you mean resnet50"), ("alexnet", 16, "--image-size 16")]
)
def test_what_torchvision_does_not_have_is_refused(name: str, size: int, says: str) -> None:
    with pytest.raises(UsageError, match=says) as error:
        build(name, 10, size)
    assert "\n" not in str(error.value)
