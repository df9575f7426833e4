"""A model or an optimizer that cannot be masked is refused in one line, and nothing is left behind."""

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn

from sparselearning import Masking
from tests.exact import bits, check_sparse
from tests.misuse import every, refused
from tests.networks import NNZ, backward, network, sgd, train, training


def with_weight(weight: torch.Tensor) -> nn.Module:
    """A network whose last weight is this one."""
    model = network()
    model[4].weight = nn.Parameter(weight, requires_grad=weight.is_floating_point())
    return model


def sharded() -> nn.Module:
    model = network()
    model[4].weight.device_mesh = "two processes"
    return model


# ---- models ----------------------------------------------------------------------------------------------------------

MODELS: dict[str, tuple[Callable[[], Any], str]] = {
    "None": (lambda: None, "model.*None"),
    "a class": (lambda: nn.Sequential, "model.*class"),
    "a function that makes one": (lambda: network, "model.*function"),
    "a state dict": (lambda: network().state_dict(), "model.*OrderedDict"),
    "its parameters": (lambda: network().parameters(), "model.*generator"),
    "its parameters by name": (lambda: dict(network().named_parameters()), "model.*dict"),
    "a list of layers": (lambda: list(network()), "model.*list"),
    "a tuple of a model and an optimizer": (lambda: (network(), None), "model.*tuple"),
    "a file": (lambda: "model.pt", "model.*str"),
    "a tensor": (lambda: torch.zeros(3, 3), "model.*float32 of shape"),
    "an optimizer": (lambda: sgd(network()), "model.*SGD"),
    "a masking": (lambda: training().masking, "model.*Masking"),
    "without layers": (nn.Identity, "no .*weights"),
    "with norms only": (lambda: nn.BatchNorm2d(4), "no .*weights"),
    "frozen": (lambda: network().requires_grad_(False), "no .*weights"),
    "lazy": (lambda: nn.Sequential(nn.LazyConv2d(6, 3), nn.Flatten(), nn.LazyLinear(10)), "lazy|Lazy"),
    "lazy in one layer": (lambda: nn.Sequential(nn.Linear(4, 4), nn.LazyLinear(10)), "lazy|Lazy"),
    "on the meta device": (lambda: network().to("meta"), "meta"),
    "on the meta device in one layer": (lambda: nn.Sequential(network(), nn.Linear(4, 4, device="meta")), "meta"),
    "with an empty weight": (lambda: with_weight(torch.zeros(0, 54)), "4.weight.*empty"),
    "with empty weights only": (lambda: nn.Linear(0, 4), "empty"),
    "with complex weights of double precision": (lambda: nn.Linear(4, 4, dtype=torch.complex128), "number type"),
    "with eight-bit floats": (lambda: with_weight(torch.zeros(10, 54).to(torch.float8_e4m3fn)), "number type"),
    "sharded": (sharded, "4.weight.*(shard|whole)"),
}


@pytest.mark.filterwarnings("ignore:Initializing zero-element", "ignore:Lazy modules")
@every(MODELS, "make", "match")
def test_a_model_that_cannot_be_masked_is_refused(make: Callable[[], Any], match: str) -> None:
    model = make()
    parameters = model.parameters() if isinstance(model, nn.Module) else network().parameters()
    optimizer = torch.optim.SGD(list(parameters) or [torch.zeros(1)], lr=0.1)
    refused(lambda: Masking(model, optimizer, "rigl", 0.5), match)
    refused(lambda: Masking(model, optimizer, "static", 0.5), match)  # not for what was left behind


def complex_network() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 8, dtype=torch.complex64), nn.Linear(8, 4, dtype=torch.complex64))


@pytest.mark.parametrize("method", ["static", "set", "rigl", "granet"])
@pytest.mark.parametrize(
    "dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64], ids=str
)
def test_weights_of_any_number_type_that_trains_are_masked(dtype: torch.dtype, method: str) -> None:
    model = complex_network() if dtype.is_complex else nn.Sequential(nn.Linear(6, 8), nn.Linear(8, 4)).to(dtype)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    options = {"prune_end": 4} if method == "granet" else {}
    masking = Masking(model, optimizer, method, 0.25, update_frequency=2, **options)
    for seed in range(6):
        x = torch.randn(5, 6, generator=torch.Generator().manual_seed(seed)).to(dtype)
        model(x).abs().float().square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    check_sparse(masking, 20)


# ---- optimizers ------------------------------------------------------------------------------------------------------


def head_only(model: nn.Module) -> Any:
    return torch.optim.SGD(model[4].parameters(), lr=0.1)


OPTIMIZERS: dict[str, tuple[Callable[[nn.Module], Any], str]] = {
    "None": (lambda model: None, "optimizer is None"),
    "a class": (lambda model: torch.optim.SGD, "optimizer is the class SGD"),
    "a function that makes one": (lambda model: partial(torch.optim.SGD, lr=0.1), "optimizer is a partial"),
    "a name": (lambda model: "sgd", "optimizer is a str"),
    "a state dict": (lambda model: sgd(model).state_dict(), "optimizer is a dict"),
    "a list of one": (lambda model: [sgd(model)], "optimizer is a list"),
    "a learning rate": (lambda model: 0.1, "optimizer is a float"),
    "parameters": (lambda model: model.parameters(), "optimizer is a generator"),
    "a gradient scaler": (lambda model: torch.amp.GradScaler("cpu"), "optimizer is a GradScaler"),
    "the model": (lambda model: model, "optimizer is a Sequential"),
    "of another model": (lambda model: sgd(network()), "does not hold 0.weight"),
    "of a copy": (lambda model: sgd(copy.deepcopy(model)), "does not hold 0.weight"),
    "of the head": (head_only, "does not hold 0.weight"),
    "of the biases": (lambda model: torch.optim.SGD([model[4].bias], lr=0.1), "does not hold 0.weight"),
    "of detached weights": (
        lambda model: torch.optim.SGD([w.detach() for w in model.parameters()], lr=0.1), "does not hold 0.weight"
    ),
}  # fmt: skip


@every(OPTIMIZERS, "make", "match")
def test_an_optimizer_that_cannot_mask_is_refused(make: Callable[[nn.Module], Any], match: str) -> None:
    model = network()
    before = bits(model.state_dict())
    refused(lambda: Masking(model, make(model), "rigl", 0.2), match)
    assert bits(model.state_dict()) == before


def test_swapped_model_and_optimizer_are_refused() -> None:
    model = network()
    refused(lambda: Masking(sgd(model), model, "rigl", 0.2), "model.*SGD")


def test_a_schedule_stands_for_its_optimizer() -> None:
    model = network()
    optimizer = sgd(model)
    masking = Masking(model, torch.optim.lr_scheduler.ConstantLR(optimizer), "set", 0.2, update_frequency=2)
    train(model, optimizer, range(5))
    check_sparse(masking)


# ---- one masking for each optimizer ----------------------------------------------------------------------------------


def test_a_cell_that_is_run_twice_is_refused_and_the_first_masking_goes_on() -> None:
    model, optimizer, masking = training()
    refused(lambda: Masking(model, optimizer, "rigl", 0.1, update_frequency=2), "remove")
    train(model, optimizer, range(5))
    check_sparse(masking)


def test_a_second_network_of_the_same_optimizer_is_refused() -> None:
    both = nn.ModuleList([network(0), network(1)])
    optimizer = sgd(both)
    masking = Masking(both[0], optimizer, "set", 0.2)
    refused(lambda: Masking(both[1], optimizer, "set", 0.2), "remove|already")
    backward(both[0])
    optimizer.step()
    check_sparse(masking)


def test_after_a_refusal_the_next_masking_works() -> None:
    model = network()
    optimizer = sgd(model)
    before = bits(model.state_dict())
    for wrong in ({"density": 2.0}, {"growth": "up"}, {"method": "snip"}, {"exempt": ["head"]}):
        refused(partial(Masking, model, optimizer, **({"density": 0.2} | wrong)), ".")
    assert bits(model.state_dict()) == before
    masking = Masking(model, optimizer, "set", 0.2, update_frequency=2)
    train(model, optimizer, range(5))
    check_sparse(masking)


def test_after_remove_the_next_masking_takes_over() -> None:
    model, optimizer, masking = training()
    masking.remove()
    masking.remove()
    after = Masking(model, optimizer, "set", 0.1, update_frequency=2)
    train(model, optimizer, range(5))
    check_sparse(after, 65)
    assert masking.step == 3
    assert masking.nnz == NNZ
