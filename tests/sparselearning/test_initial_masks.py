"""Where the first connections are: as many as the layer's share, each place as likely, each layer for itself."""

import itertools

import pytest
import torch
from scipy.stats import chisquare, hypergeom
from torch import nn

from sparselearning import Masking
from tests.exact import bits, check_sparse
from tests.networks import network, sgd

PLACES, KEPT = 1600, 160


def masks_of(seed: int) -> dict[str, torch.Tensor]:
    """Four layers of 1,600 weights, 160 of them kept; two have the same shape."""
    model = nn.ModuleDict({
        "square": nn.Linear(40, 40), "again": nn.Linear(40, 40), "wide": nn.Linear(80, 20),
        "conv": nn.Conv2d(16, 4, 5),
    })  # fmt: skip
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    masking = Masking(model, optimizer, method="static", density=KEPT / PLACES, sparse_init="uniform", seed=seed)
    return {name: mask.flatten() for name, mask in masking.masks.items()}


def likely(shared: int) -> bool:
    """Of two independent draws of 160 of 1,600 places: not among the 1 in 10,000 that share the fewest or most."""
    low, high = hypergeom(PLACES, KEPT, KEPT).ppf([5e-5, 1 - 5e-5])
    return low <= shared <= high


def test_layers_share_no_draw() -> None:
    for seed in range(3):
        masks = masks_of(seed)
        assert [int(mask.sum()) for mask in masks.values()] == [KEPT] * 4
        for (first, a), (second, b) in itertools.combinations(masks.items(), 2):
            assert likely(int((a & b).sum())), f"{first} and {second} share {int((a & b).sum())} places"


def test_seeds_share_no_draw_and_one_seed_gives_one() -> None:
    first, again, other = masks_of(0), masks_of(0), masks_of(1)
    for name in first:
        assert torch.equal(first[name], again[name])
        assert likely(int((first[name] & other[name]).sum()))


@pytest.mark.parametrize("parts", [16, 40])
def test_every_place_is_as_likely(parts: int) -> None:
    """Counted over 40 seeds, in stretches of a layer and by the position within a row."""
    counts = sum(mask.long() for seed in range(40) for mask in masks_of(seed).values())
    for cut in (counts.view(parts, -1).sum(1), counts.view(-1, parts).sum(0)):
        assert chisquare(cut).pvalue > 1e-3


# ---- connections to start from ---------------------------------------------------------------------------------------


def static_masks(seed: int = 0) -> dict[str, torch.Tensor]:
    model = network()
    return dict(Masking(model, sgd(model), "static", 0.2, seed=seed).masks)


@pytest.mark.parametrize("weights", [False, True], ids=["masks", "weights of a ticket"])
def test_a_network_starts_from_the_connections_that_it_is_given(weights: bool) -> None:
    model, given = network(), static_masks(seed=7)
    init = {name: -0.5 * mask if weights else mask for name, mask in given.items()}
    masking = Masking(model, sgd(model), "static", 0.2, sparse_init=init)
    assert bits(masking.masks) == bits(given) != bits(static_masks())
    check_sparse(masking)
