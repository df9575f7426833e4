"""Many tickets into one: averaging, and pruning back to the density (Sup-tickets §3.2.2).

A ticket is a state dict whose connections are the non-zeros of its maskable weights. It is taken by copy, so the
model trains on from its own weights, never from the average.
"""

from collections.abc import Collection, Mapping
from typing import TypedDict, cast

import torch
from torch import Tensor

from sparselearning.averages import AVERAGES, PRUNINGS, Taken, parameters
from sparselearning.errors import UsageError, check_count, choose, is_names, shown
from sparselearning.kinds import kind_of, misfit
from sparselearning.layers import clear_, count_outside, memory
from sparselearning.selection import k_largest_overall

Ticket = dict[str, Tensor]


class Average(TypedDict):
    """What a state of Superposition holds beside its settings."""

    tickets: int
    average: Ticket
    activations: Ticket


def take_ticket(state: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> Ticket:
    """Copy a model's state dict as a ticket.

    Entries that share memory in the state dict, a weight and what is tied to it, share it in the ticket.

    Args:
        state: `model.state_dict()`, weights zero outside the masks.
        masks: {parameter name: bool mask of its shape}; empty for a dense model.

    Raises:
        UsageError: the state dict lacks a masked weight, or weights outside the masks are not zero: it is not that
            of the network that was kept sparse.
    """
    _check_tensors("the state", state)
    _check_tensors("the masks", masks)
    for name, mask in masks.items():
        if name not in state:
            raise UsageError(
                f"the state dict has no {name} of shape {tuple(mask.shape)}: give that of the plain model, "
                f"sparselearning.unwrap(model).state_dict()"
            )
        if not _fits(mask, state[name]):
            raise UsageError(f"{name} is {kind_of(state[name])}, its mask {kind_of(mask)}: they do not belong together")
    if outside := count_outside(state, masks):
        name = max(outside, key=lambda name: outside[name])
        raise UsageError(
            f"{sum(outside.values())} weights outside the masks are not zero, {outside[name]} of them in {name}: this "
            f"is not the network that Masking keeps sparse. Sparsify an average or a copy of it with "
            f"masking.sparsify_(model); or it was trained by another optimizer than the one that Masking was given"
        )
    ticket = copied(state)
    for name, mask in masks.items():
        _mark(ticket[name], mask)
    return ticket


def _check_tensors(what: str, tensors: object) -> None:
    if not isinstance(tensors, Mapping):
        raise UsageError(f"{what} are {kind_of(tensors)}, not tensors by name: model.state_dict(), masking.masks")
    if other := next((name for name, tensor in tensors.items() if not isinstance(tensor, Tensor)), None):
        raise UsageError(f"{other} of {what} is {kind_of(tensors[other])}, not a tensor")


def _fits(mask: Tensor, weight: Tensor) -> bool:
    """Is it a mask of this weight?"""
    numbers = weight.is_floating_point() or weight.is_complex()
    return mask.dtype == torch.bool and numbers and (mask.shape, mask.device) == (weight.shape, weight.device)


def copied(state: Mapping[str, Tensor]) -> Ticket:
    """A copy of a state dict, in which entries share memory where they did."""
    copies = {memory(t): t.detach().clone(memory_format=torch.contiguous_format) for t in state.values()}
    return {name: copies[memory(tensor)] for name, tensor in state.items()}


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
        method: a row of AVERAGES: `cia`, `caa` or `cima`.
        prune: after `every` averaging, from whose pruned result the next goes on (§3.2.2 and line 11 of Algorithm 1),
            or the `last` alone, so that the average is the plain mean of the tickets until it is used.
        given: parameters of the rows of AVERAGES: `beta`, β of `cima`.
    """

    def __init__(
        self, names: Collection[str], count: int, method: str = "cia", prune: str = "every", **given: float
    ) -> None:
        choose("superpose", method, AVERAGES)
        choose("prune_average", prune, PRUNINGS)
        if not is_names(names):
            raise UsageError(f"names {shown(names)} are not a list of names of maskable weights")
        check_count("count", count, len(names))  # each layer keeps one
        self.names, self.count, self.method, self.prune = list(names), count, method, prune
        self.parameters = parameters(given)
        self.tickets = 0
        self.average: Ticket = {}
        self.activations: Ticket = {}  # N(k, j) of caa, per maskable weight

    @torch.no_grad()
    def add(self, ticket: Mapping[str, Tensor]) -> None:
        """Average one more ticket in; integers (batch norm's counters) are kept from the newest.

        Raises:
            UsageError: it is no ticket, or not one of the same network; the average stays as it was.
        """
        self._check(ticket)
        self.tickets += 1
        masked = {memory(ticket[name]): name for name in self.names}  # what is tied to a masked weight goes with it
        owners = {name: masked.get(memory(tensor), name) for name, tensor in ticket.items()}
        averages = {name: self._averaged(name, ticket[name]) for name in {*owners.values()}}
        self.average = {name: averages[owner] for name, owner in owners.items()}
        if self.counts:
            for name in self.names:
                active = (ticket[name] != 0).to(torch.int32)
                self.activations[name] = self.activations.get(name, 0) + active
        if self.prune == "every":
            self._prune_(self.average)

    def _check(self, ticket: Mapping[str, Tensor]) -> None:
        _check_tensors("the ticket", ticket)
        if problem := misfit(ticket, self.average, "the ticket") if self.tickets else None:
            raise UsageError(f"{problem}: it is not one of the network whose tickets are averaged")
        for name in self.names:
            if name not in ticket or not ticket[name].is_floating_point() or ticket[name].is_meta:
                raise UsageError(f"the ticket has no weights {name}: is it another model's?")
        total = sum(ticket[name].numel() for name in self.names)
        if total < self.count:
            raise UsageError(f"count {self.count} is more than the {total} maskable weights")
        # a sum is finite where all of its numbers are, and takes less time than looking at each
        floats = [name for name, tensor in ticket.items() if tensor.is_floating_point()]
        sums = [ticket[name].sum(dtype=torch.promote_types(ticket[name].dtype, torch.float32)) for name in floats]
        finite = torch.stack([total.double() for total in sums]).isfinite().tolist() if sums else []
        if bad := [name for name, good in zip(floats, finite, strict=True) if not good]:
            raise UsageError(f"{bad[0]} of the ticket is not finite: it would spoil the average")

    def _averaged(self, name: str, new: Tensor) -> Tensor:
        if self.tickets == 1 or not new.is_floating_point():
            return new.clone()
        taken = Taken(self.tickets, self.activations.get(name), self.parameters)
        return AVERAGES[self.method].formula(self.average[name], new, taken)

    def _prune_(self, average: Ticket) -> None:
        """Global magnitude pruning to exactly `count` maskable weights, in place (§3.2.2)."""
        if not self.names:
            return
        weights = [average[name] for name in self.names]
        kept = k_largest_overall(weights, self.count)
        clear_(weights, kept)
        for weight, mask in zip(weights, kept, strict=True):
            _mark(weight, mask)

    @torch.no_grad()
    def ticket(self) -> Ticket:
        """The superposed ticket, a copy: the average, pruned to exactly `count` maskable weights.

        Raises:
            UsageError: there is nothing to average.
        """
        if not self.tickets:
            raise UsageError("no ticket has been added yet: there is nothing to average")
        ticket = copied(self.average)
        if self.prune == "last":
            self._prune_(ticket)
        return ticket

    @property
    def counts(self) -> bool:
        """Does it hold `activations`, once it has a ticket?"""
        return AVERAGES[self.method].counts

    def _settings(self) -> dict[str, object]:
        own = {"names": self.names, "count": self.count, "method": self.method, "prune": self.prune}
        return own | self.parameters

    def state_dict(self) -> dict[str, object]:
        taken: Average = {"tickets": self.tickets, "average": self.average, "activations": self.activations}
        return self._settings() | taken

    def load_state_dict(self, state: Mapping[str, object], like: Mapping[str, Tensor]) -> None:
        """Restore a state for a model whose state dict is `like`, on its devices.

        Raises:
            UsageError: it is of another model or another averaging.
        """
        if not isinstance(like, Mapping) or {*self.names} - {*like}:
            raise UsageError(f"an average is restored like model.state_dict(), not like {kind_of(like)}")
        taken = isinstance(state, Mapping) and state.get("tickets") != 0
        own = self.state_dict() | {
            "tickets": 0,
            "average": like if taken else {},
            "activations": {n: like[n].to(torch.int32) for n in self.names} if taken and self.counts else {},
        }
        if problem := misfit(state, own):
            raise UsageError(f"the saved average is of another model or method, or not whole: {problem}")
        check_count("tickets of the saved average", state["tickets"], 0)
        if any(state[name] != value for name, value in self._settings().items()):
            raise UsageError("the saved average is of other weights or by another method")
        saved = cast(Average, state)  # as `misfit` has checked
        self.tickets = saved["tickets"]
        self.average = {name: tensor.to(like[name].device) for name, tensor in saved["average"].items()}
        self.activations = {name: tensor.to(like[name].device) for name, tensor in saved["activations"].items()}
