"""Masked are the trained weights of all convolutions and linear layers, but those that are exempt."""

import pytest
import torch
from torch import nn

from sparselearning import Masking, UsageError, take_ticket, unwrap
from sparselearning.layers import maskable_weights
from tests.exact import check_sparse
from tests.networks import Tied, network, sgd


@pytest.mark.parametrize(
    ("model", "names"),
    [
        (nn.Linear(4, 4), ["weight"]),
        (
            nn.Sequential(nn.Conv1d(4, 4, 3), nn.Conv2d(4, 4, 3), nn.Conv3d(4, 4, 3)),
            ["0.weight", "1.weight", "2.weight"],
        ),
        (nn.Sequential(nn.ConvTranspose1d(4, 2, 3), nn.ConvTranspose2d(4, 2, 3)), ["0.weight", "1.weight"]),
        (nn.Sequential(nn.ConvTranspose3d(4, 2, 3), nn.Conv2d(4, 4, 3, groups=4)), ["0.weight", "1.weight"]),
        (nn.MultiheadAttention(8, 2), ["in_proj_weight", "out_proj.weight"]),
        (
            nn.MultiheadAttention(8, 2, kdim=4, vdim=6, add_bias_kv=True),
            ["q_proj_weight", "k_proj_weight", "v_proj_weight", "out_proj.weight"],
        ),
        (Tied(), ["first.weight"]),
        (
            nn.Sequential(nn.Embedding(5, 4), nn.LayerNorm(4), nn.BatchNorm1d(4), nn.PReLU(4), nn.Linear(4, 4)),
            ["4.weight"],
        ),
    ],
    ids=["linear", "conv", "transposed", "depthwise", "attention", "attention, kdim", "tied", "others"],
)
def test_maskable_are_the_weights_of_all_convolutions_and_linear_layers(model: nn.Module, names: list[str]) -> None:
    masking = Masking(model, sgd(model), "static", 0.5)
    assert sorted(masking.masks) == sorted(names)
    parameters = dict(model.named_parameters())
    assert masking.num_weights == sum(parameters[name].numel() for name in names)
    check_sparse(masking, round(0.5 * masking.num_weights))


@pytest.mark.parametrize(
    ("exempt", "left"),
    [
        ([], ["0.weight", "4.weight"]),
        (["4.*"], ["0.weight"]),
        (["0.weight", "[14].weight"], None),
        (["*"], None),
    ],
)
def test_exempt_patterns_leave_weights_dense_and_uncounted(exempt: list[str], left: list[str] | None) -> None:
    model = network()
    if left is None:
        with pytest.raises(UsageError, match="no convolution or linear weights left"):
            Masking(model, sgd(model), "static", 0.1, exempt=exempt)
        return
    masking = Masking(model, sgd(model), "static", 0.1, exempt=exempt)
    assert list(masking.masks) == left
    weights = maskable_weights(model)
    check_sparse(masking, round(0.1 * sum(weights[name].numel() for name in left)))
    assert all(weights[name].all() for name in weights.keys() - set(left))


def test_tied_weights_train_at_their_density() -> None:
    model = Tied()
    optimizer = sgd(model)
    masking = Masking(model, optimizer, "rigl", 0.5, update_frequency=1)
    for _ in range(3):
        model.second(model.first(torch.randn(4, 6)).relu()).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    check_sparse(masking, 18)
    assert model.second.weight is model.first.weight


def test_a_weight_that_the_optimizer_does_not_hold_is_refused() -> None:
    model = network()
    with pytest.raises(UsageError, match=r"does not hold 4\.weight"):
        Masking(model, torch.optim.SGD(model[:4].parameters(), lr=0.1), "rigl", 0.1)
    Masking(model, torch.optim.SGD(model[:4].parameters(), lr=0.1), "rigl", 0.1, exempt=["4.*"])


def test_looking_for_weights_changes_none_of_those_that_are_computed() -> None:
    model = nn.Sequential(nn.utils.parametrizations.spectral_norm(nn.Linear(8, 8)), nn.Linear(8, 4))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert [*maskable_weights(model)] == ["1.weight"]
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_frozen_weights_are_neither_masked_nor_counted() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 4))
    model[0].requires_grad_(False)
    before = model[0].weight.clone()
    masking = Masking(model, sgd(model), "rigl", 0.25)
    assert [*masking.masks] == ["1.weight", "2.weight"]
    assert (masking.num_weights, masking.target_nnz) == (96, 24)
    assert torch.equal(model[0].weight, before)
    with pytest.raises(UsageError, match="no trained parameter"):
        Masking(model, torch.optim.SGD(model.parameters(), lr=0.1), "rigl", 0.25, include=["0.weight"])


def test_tickets_of_a_wrapped_model_are_those_of_the_plain_one() -> None:
    model = network()
    masking = Masking(torch.compile(nn.DataParallel(model), backend="eager"), sgd(model), "rigl", 0.25)
    assert [*masking.masks] == ["0.weight", "4.weight"]
    wrapped = nn.DataParallel(model)
    with pytest.raises(UsageError, match=r"no 0\.weight of shape .*unwrap\(model\)"):
        take_ticket(wrapped.state_dict(), masking.masks)
    take_ticket(unwrap(wrapped).state_dict(), masking.masks)
