"""Densities by layer are exact and stay, or mean nothing and are refused."""

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import nn

from sparselearning import Masking, UsageError
from tests.networks import sgd


def three_layers() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(10, 20), nn.ReLU(), nn.Linear(20, 30), nn.ReLU(), nn.Linear(30, 5))


@pytest.mark.parametrize(
    ("density", "counts"),
    [
        ({"0.*": 0.5, "4.weight": 1.0, "*": 0.1}, [100, 60, 150]),
        ({"*": 0.1, "0.*": 0.5}, [20, 60, 15]),  # the first that fits
        ({"[02].weight": 0.25, "4.*": 1e-9}, [50, 150, 1]),  # a layer keeps one at least
    ],
)
@pytest.mark.parametrize("method", ["static", "rigl", "set"])
def test_densities_by_layer_are_exact_and_stay(method: str, density: Mapping[str, float], counts: list[int]) -> None:
    model = three_layers()
    masking = Masking(model, sgd(model), method, density, update_frequency=2)
    assert [*masking.active.values()] == counts
    for step in range(6):
        x = torch.randn(8, 10, generator=torch.Generator().manual_seed(step))
        model(x).square().mean().backward()
        masking.optimizer.step()
    assert [int(m.sum()) for m in masking.masks.values()] == counts
    assert (masking.target_nnz, masking.density) == (sum(counts), pytest.approx(sum(counts) / 950))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"density": {"0.*": 0.5}}, r"no density is given for 2\.weight"),
        ({"density": {"nowhere": 0.5, "*": 0.1}}, "'nowhere': no masked weight has such a name"),
        ({"density": {"*": 0.0}}, r"density 0 is not in \(0, 1\]"),
        ({"density": {"*": 0.1}, "method": "granet", "prune_end": 4}, "GraNet moves connections between layers"),
        ({"density": {"*": 0.1}, "method": "snfs"}, "SNFS moves connections between layers"),
        ({"density": {"*": 0.1}, "method": "snip"}, "snip chooses the density of each layer"),
    ],
)
def test_densities_that_mean_nothing_are_refused(options: dict[str, Any], message: str) -> None:
    model = three_layers()
    with pytest.raises(UsageError, match=message):
        Masking(model, sgd(model), **options)
