"""Many tickets into one: averaging, and pruning back to the density (Sup-tickets §3.2.2).

A ticket is a state dict whose connections are the non-zeros of its maskable weights. It is taken by copy, so the
model trains on from its own weights, never from the average.
"""

from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch
from torch import Tensor

from sparselearning.errors import UsageError, choose
from sparselearning.layers import clear_
from sparselearning.selection import k_largest_overall

Ticket = dict[str, Tensor]
_SETTINGS = ("names", "count", "method", "beta")


def take_ticket(state: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> Ticket:
    """Copy a model's state dict as a ticket.

    Args:
        state: `model.state_dict()`, weights zero outside the masks.
        masks: {parameter name: bool mask of its shape}; empty for a dense model.

    Raises:
        UsageError: a masked weight stands in the state dict under two names.
    """
    ticket = {name: tensor.detach().clone(memory_format=torch.contiguous_format) for name, tensor in state.items()}
    for name, mask in masks.items():
        twins = [twin for twin in state if twin != name and state[twin].data_ptr() == state[name].data_ptr()]
        if twins:
            raise UsageError(f"{name} is tied to {twins[0]}: tickets of models with tied weights are not supported")
        _mark(ticket[name], mask)
    return ticket


def _mark(weight: Tensor, mask: Tensor) -> None:
    """Keep active weights that are exactly zero (grown, never reached by a gradient) visible as connections.

    They get a number that adds nothing to any output, yet is far from underflow when it is averaged.
    """
    weight.masked_fill_(mask & (weight == 0), 2.0**-24 if weight.dtype == torch.float16 else 2.0**-100)


class Superposition:
    """The running average of the tickets taken so far; it holds one copy of the network (with CAA, and its counts).

    Args:
        names: the maskable weights; everything else (biases, norm parameters and statistics) is averaged densely.
        count: round(density · N), the weights that the superposed ticket keeps.
        method: `cia`, `caa` or `cima`.
        beta: β of `cima`; larger values favour the early tickets.
    """

    def __init__(self, names: Collection[str], count: int, method: str = "cia", beta: float = 0.8) -> None:
        choose("superpose", method, AVERAGES)
        if not 0 <= beta < 1:
            raise UsageError(f"cima_beta {beta:g} is not in [0, 1): it is the weight of the tickets before the newest")
        self.names, self.count, self.method, self.beta = list(names), count, method, beta
        self.tickets = 0
        self.average: Ticket = {}
        self.activations: Ticket = {}  # N(k, j) of caa, per maskable weight

    @torch.no_grad()
    def add(self, ticket: Mapping[str, Tensor]) -> None:
        """Average one more ticket in; integers (batch norm's counters) are kept from the newest."""
        self.tickets += 1
        for name, new in ticket.items():
            if self.tickets == 1 or not new.is_floating_point():
                self.average[name] = new.clone()
            else:
                self.average[name] = AVERAGES[self.method](self, name, self.average[name], new)
        if self.method == "caa":
            for name in self.names:
                active = (ticket[name] != 0).to(torch.int32)
                self.activations[name] = self.activations.get(name, 0) + active

    @torch.no_grad()
    def ticket(self) -> Ticket:
        """The superposed ticket: the average, pruned by global magnitude to exactly `count` maskable weights.

        The average itself stays unpruned, so that it is the mean of the tickets as §3.2.2 defines it; Algorithm 1, to
        the letter, would feed the pruned one back into Eq. 4.
        """
        ticket = {name: tensor.clone() for name, tensor in self.average.items()}
        if self.names:
            kept = k_largest_overall([ticket[name].abs() for name in self.names], self.count)
            for name, mask in zip(self.names, kept, strict=True):
                clear_(ticket[name], mask)
                _mark(ticket[name], mask)
        return ticket

    def state_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in (*_SETTINGS, "tickets", "average", "activations")}

    def load_state_dict(self, state: dict[str, Any], like: Mapping[str, Tensor]) -> None:
        """Restore a state for a model whose state dict is `like`, on its devices.

        Raises:
            UsageError: it is of another model or another averaging.
        """
        if any(state[name] != getattr(self, name) for name in _SETTINGS):
            raise UsageError("the saved average is of other weights or by another method")
        for part, names in (("average", like), ("activations", self.names if self.method == "caa" else ())):
            shapes = {name: tensor.shape for name, tensor in state[part].items()}
            if shapes != ({name: like[name].shape for name in names} if state["tickets"] else {}):
                raise UsageError(f"the saved {part} is of another model")
        self.tickets = state["tickets"]
        self.average = {name: tensor.to(like[name].device) for name, tensor in state["average"].items()}
        self.activations = {name: tensor.to(like[name].device) for name, tensor in state["activations"].items()}


def cia(running: Superposition, name: str, average: Tensor, new: Tensor) -> Tensor:
    """Connection independent averaging, Eq. 4: θ̃ᵗ = ((t − 1)·θ̃ᵗ⁻¹ + θᵗ) / t; absent connections count as 0."""
    t = running.tickets
    return ((t - 1) * average + new) / t


def caa(running: Superposition, name: str, average: Tensor, new: Tensor) -> Tensor:
    """Connection aware averaging: the sum over the tickets divided by N(k, j), the times a connection was active."""
    if name not in running.activations:
        return cia(running, name, average, new)
    before = running.activations[name]
    return (before * average + new) / (before + (new != 0)).clamp(min=1)


def cima(running: Superposition, name: str, average: Tensor, new: Tensor) -> Tensor:
    """Connection independent moving averaging: θ̃ᵗ = β·θ̃ᵗ⁻¹ + (1 − β)·θᵗ."""
    return running.beta * average + (1 - running.beta) * new


AVERAGES: dict[str, Callable[[Superposition, str, Tensor, Tensor], Tensor]] = {"cia": cia, "caa": caa, "cima": cima}
