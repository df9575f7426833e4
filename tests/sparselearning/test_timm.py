"""Masking with timm's networks and optimizers."""

import pytest
import torch
from torch.nn import functional as F

from sparselearning import Masking
from tests.exact import RIGL, STEPS, Exact

timm = pytest.importorskip("timm")
from timm.optim import create_optimizer_v2  # noqa: E402

SIZE = 64  # pixels
# small versions of the architectures, each with another kind of optimizer
NETWORKS = {"test_resnet": "lamb", "test_vit": "adamw", "test_convnext": "adamw", "test_efficientnet": "sgd"}


@pytest.mark.parametrize("name", NETWORKS)
def test_fifty_steps_and_three_updates_are_exact(name: str) -> None:
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=10, **({"img_size": SIZE} if "vit" in name else {}))
    optimizer = create_optimizer_v2(model, opt=NETWORKS[name], lr=0.002, weight_decay=0.05)
    exact = Exact(Masking(model, optimizer, **RIGL), model)
    for step in range(STEPS):
        rng = torch.Generator().manual_seed(step)
        images, labels = torch.randn(2, 3, SIZE, SIZE, generator=rng), torch.randint(10, (2,), generator=rng)
        F.cross_entropy(model(images), labels).backward()
        optimizer.step()
        exact()
        optimizer.zero_grad()
    exact.end()
