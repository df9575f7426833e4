"""Parts for the tests of mistakes in use: a small network in training, and what a refusal is."""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sparselearning import Masking, UsageError

inf, nan = math.inf, math.nan
MASKABLE, KEPT = 594, 119  # weights of the network, and at the density of 0.2


def network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 6, 3, bias=False), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(54, 10)
    )


def batch(seed: int = 0) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(8, 1, 5, 5, generator=rng), torch.randint(10, (8,), generator=rng)


def sgd(model: nn.Module) -> torch.optim.SGD:
    return torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)


def backward(model: nn.Module, seed: int = 0) -> None:
    x, y = batch(seed)
    x = x.to(next(model.parameters()).dtype)
    F.cross_entropy(model(x), y).backward()


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> None:
    for seed in range(steps):
        backward(model, seed)
        optimizer.step()
        optimizer.zero_grad()


class Parts(NamedTuple):
    """What a training loop holds."""

    model: nn.Sequential
    optimizer: torch.optim.Optimizer
    masking: Masking


def training(method: str = "rigl", *, steps: int = 3, **options: Any) -> Parts:
    """A network of density 0.2 whose connections move every second step, `steps` after the start."""
    model = network()
    optimizer = sgd(model)
    masking = Masking(model, optimizer, method, **({"density": 0.2, "update_frequency": 2} | options))
    train(model, optimizer, steps)
    return Parts(model, optimizer, masking)


def bits(tensors: Mapping[str, Any]) -> dict[str, Any]:
    """What they hold, to the bit; what is no tensor as it is."""
    return {
        name: tensor.detach().contiguous().numpy().tobytes() if isinstance(tensor, Tensor) else tensor
        for name, tensor in tensors.items()
    }


def check_sparse(masking: Masking, kept: int = KEPT) -> None:
    """The masks have `kept` entries, and outside them weights and what the optimizer remembers of them are zero."""
    assert masking.nnz == kept == sum(int(mask.sum()) for mask in masking.masks.values())
    for name, mask in masking.masks.items():
        weight = masking.weights[name]
        assert not weight[~mask].any(), name
        for key, state in masking.optimizer.state[weight].items():
            if isinstance(state, Tensor) and state.shape == weight.shape:
                assert (state[~mask] == state[~mask][:1]).all(), (name, key)  # 0, or as it was at first


def refused(call: Callable[[], Any], match: str) -> None:
    """The call ends in one line that names the mistake, and no other exception."""
    with pytest.raises(UsageError, match=match) as error:
        call()
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 400


def every(cases: Mapping[str, tuple[Any, ...]], *names: str) -> pytest.MarkDecorator:
    """A test for each row of a table {what is wrong: (…)}."""
    return pytest.mark.parametrize(names, [pytest.param(*row, id=name) for name, row in cases.items()])
