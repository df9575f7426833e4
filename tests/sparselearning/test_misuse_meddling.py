"""What goes on behind a masking's back is noticed before training goes on with a wrong network, or does no harm."""

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune

from sparselearning import take_ticket
from sparselearning.topology import Topology
from tests.misuse import every, refused
from tests.networks import Parts, backward, network, sgd, train, training

# ---- refused at the next step or the next topology update ------------------------------------------------------------


def load_dense(parts: Parts) -> None:
    parts.model.load_state_dict(network(1).state_dict())


def load_a_layer(parts: Parts) -> None:
    parts.model.load_state_dict({"4.weight": torch.ones(10, 54)}, strict=False)


def load_and_assign(parts: Parts) -> None:
    parts.model.load_state_dict(network(1).state_dict(), assign=True)


def load_another_ticket(parts: Parts) -> None:
    other = training(seed=1)
    parts.model.load_state_dict(take_ticket(other.model.state_dict(), other.masking.masks))


def initialize_anew(parts: Parts) -> None:
    for weight in parts.masking.weights.values():
        nn.init.kaiming_normal_(weight)


def write_one_weight(parts: Parts) -> None:
    with torch.no_grad():
        parts.model[4].weight[~parts.masking.masks["4.weight"]] = 0.5


def second_optimizer(parts: Parts) -> None:
    backward(parts.model)
    sgd(parts.model).step()


def copy_of_the_optimizer(parts: Parts) -> None:
    optimizer = sgd(parts.model)
    optimizer.load_state_dict(parts.optimizer.state_dict())
    backward(parts.model)
    optimizer.step()


def exchange_a_layer(parts: Parts) -> None:
    parts.model[4] = nn.Linear(54, 10)


def exchange_a_layer_and_tell_the_optimizer(parts: Parts) -> None:
    parts.model[4] = nn.Linear(54, 10)
    parts.optimizer.add_param_group({"params": parts.model[4].parameters()})


def exchange_a_parameter(parts: Parts) -> None:
    parts.model[4].weight = nn.Parameter(torch.ones(10, 54))


def add_a_layer(parts: Parts) -> None:
    parts.model.append(nn.Linear(10, 10))
    parts.optimizer.add_param_group({"params": parts.model[5].parameters()})


def take_a_weight_from_the_optimizer(parts: Parts) -> None:
    weight = parts.masking.weights["4.weight"]
    group = parts.optimizer.param_groups[0]
    group["params"] = [other for other in group["params"] if other is not weight]


def prune_by_torch(parts: Parts) -> None:
    prune.l1_unstructured(parts.model[4], "weight", 0.5)


def normalize_weights(parts: Parts) -> None:
    parametrizations.weight_norm(parts.model[4])


def normalize_the_spectrum(parts: Parts) -> None:
    parametrizations.spectral_norm(parts.model[4])


def open_a_mask(parts: Parts) -> None:
    parts.masking.masks["4.weight"].fill_(True)


def close_a_mask(parts: Parts) -> None:
    parts.masking.masks["4.weight"].zero_()


def write_through_data(parts: Parts) -> None:
    """As averages of weights are often put in place."""
    for weight, dense in zip(parts.model.parameters(), network(1).parameters(), strict=True):
        weight.data.copy_(dense)


MEDDLING: dict[str, tuple[Callable[[Parts], None], str]] = {
    "a dense state dict is loaded": (load_dense, "outside"),
    "a layer's weights are loaded": (load_a_layer, "4.weight.*outside|outside.*4.weight"),
    "a dense state dict is assigned": (load_and_assign, "0.weight"),
    "the ticket of another run is loaded": (load_another_ticket, "outside"),
    "weights are initialized anew": (initialize_anew, "outside"),
    "a weight is written": (write_one_weight, "4.weight.*outside|outside.*4.weight"),
    "a second optimizer steps": (second_optimizer, "second optimizer|another optimizer"),
    "a copy of the optimizer steps": (copy_of_the_optimizer, "second optimizer|another optimizer"),
    "a layer is exchanged": (exchange_a_layer, "4.weight"),
    "a layer is exchanged and optimized": (exchange_a_layer_and_tell_the_optimizer, "4.weight"),
    "a parameter is exchanged": (exchange_a_parameter, "4.weight"),
    "a layer is added": (add_a_layer, "5.weight"),
    "a weight leaves the optimizer": (take_a_weight_from_the_optimizer, "4.weight"),
    "torch prunes": (prune_by_torch, "4.weight"),
    "weight norm comes later": (normalize_weights, "4.weight"),
    "spectral norm comes later": (normalize_the_spectrum, "4.weight"),
    "a mask is opened": (open_a_mask, "mask"),
    "a mask is closed": (close_a_mask, "mask"),
    "weights are written through .data": (write_through_data, "outside"),
}


@pytest.mark.parametrize("method", ["set", "rigl"])
@every(MEDDLING, "meddle", "match")
def test_what_makes_the_network_wrong_is_refused_at_the_next_topology_update(
    meddle: Callable[[Parts], None], match: str, method: str
) -> None:
    parts = training(method, steps=3)
    meddle(parts)
    updates = parts.masking.updates
    refused(lambda: train(parts.model, parts.optimizer, range(1)), match)  # the fourth step moves connections
    assert parts.masking.updates == updates


WRITTEN = {name: row for name, row in MEDDLING.items() if "outside" in row[1] or "optimizer steps" in name}


@every(WRITTEN, "meddle", "match")
def test_weights_that_others_wrote_are_refused_at_the_next_step_and_in_a_ticket(
    meddle: Callable[[Parts], None], match: str
) -> None:
    parts = training("static")
    meddle(parts)
    refused(lambda: take_ticket(parts.model.state_dict(), parts.masking.masks), "outside")
    if meddle is not write_through_data:  # which torch does not count, so that the next step clears it
        refused(lambda: train(parts.model, parts.optimizer, range(1)), "outside")


@pytest.mark.parametrize("meddle", [load_and_assign, exchange_a_layer, exchange_a_parameter])
def test_a_ticket_is_not_taken_of_a_layer_that_was_never_masked(meddle: Callable[[Parts], None]) -> None:
    parts = training("static")
    meddle(parts)
    refused(lambda: take_ticket(parts.model.state_dict(), parts.masking.masks), "outside")


def test_a_model_that_is_on_another_device_than_its_masks_is_refused_at_the_next_step() -> None:
    parts = training()
    elsewhere = {name: mask.to("meta") for name, mask in parts.masking.masks.items()}
    parts.masking.topology = Topology(elsewhere, parts.masking.active)
    backward(parts.model)
    refused(parts.optimizer.step, "moved to cpu, its masks are on meta")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_model_that_moves_to_a_gpu_is_refused_at_the_next_step() -> None:
    parts = training()
    parts.model.cuda()
    for weight in parts.model.parameters():
        weight.grad = torch.zeros_like(weight)
    refused(parts.optimizer.step, "moved to cuda:0, its masks are on cpu")
