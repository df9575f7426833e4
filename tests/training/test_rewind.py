"""Lottery ticket rewinding starts from the whole of the early network, and from the connections of the ticket."""

import copy
from pathlib import Path

import torch
from torch import Tensor, nn

from sparselearning.layers import maskable_weights
from tests.tiny import Tiny
from utils.run_folder.tickets import save_ticket
from utils.training.build import EARLY, rewind


def state(seed: int) -> dict[str, Tensor]:
    """Of a network that has seen some batches: no tensor is what it is in a new one."""
    torch.manual_seed(seed)
    model = Tiny(10)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    for _ in range(3 + seed):
        model(torch.randn(4, 3, 32, 32))
    return model.state_dict()


def test_everything_is_rewound_and_the_ticket_says_which_connections_exist(tmp_path: Path) -> None:
    early, ticket = state(1), state(2)
    for name in maskable_weights(Tiny(10)):
        ticket[name] *= torch.rand_like(ticket[name]) < 0.3
    save_ticket(tmp_path / EARLY, early, {})
    save_ticket(tmp_path / "ticket.safetensors", ticket, {})
    model: nn.Module = Tiny(10)
    new = copy.deepcopy(model.state_dict())
    connections = rewind(tmp_path, model, ())
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, early[name]) and not torch.equal(tensor, new[name]), name
    assert "1.running_var" in early and list(connections) == list(maskable_weights(model))
    assert all(torch.equal(mask, ticket[name].ne(0)) for name, mask in connections.items())
