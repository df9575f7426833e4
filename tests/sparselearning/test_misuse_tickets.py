"""Tickets and superpositions refuse what is no ticket, or that of another network, and stay as they were."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from sparselearning import Superposition, take_ticket
from tests.exact import bits
from tests.misuse import every, inf, nan, refused
from tests.networks import NNZ, NUM_WEIGHTS, Parts, backward, network, training

Ticket = dict[str, Any]


# ---- take_ticket -----------------------------------------------------------------------------------------------------


def averaged(parts: Parts) -> tuple[Any, Any]:
    """An exponential moving average over connections that move."""
    average = torch.optim.swa_utils.AveragedModel(parts.model)
    for seed in range(4):
        backward(parts.model, seed)
        parts.optimizer.step()
        average.update_parameters(parts.model)
    return average.module.state_dict(), parts.masking.masks


def never_masked(parts: Parts) -> tuple[Any, Any]:
    """As an optimizer leaves it that calls no hooks."""
    for hook in parts.masking._hooks:
        hook.remove()
    backward(parts.model)
    parts.optimizer.step()
    return parts.model.state_dict(), parts.masking.masks


def both(change: Callable[[Ticket, Ticket], Any]) -> Callable[[Parts], tuple[Any, Any]]:
    """State and masks after a change of copies of them."""

    def make(parts: Parts) -> tuple[Any, Any]:
        state, masks = copy.deepcopy(parts.model.state_dict()), copy.deepcopy(parts.masking.masks)
        change(state, masks)
        return state, masks

    return make


TAKEN: dict[str, tuple[Callable[[Parts], tuple[Any, Any]], str]] = {
    "an average over moving connections": (averaged, "outside"),
    "an optimizer that calls no hooks": (never_masked, "outside"),
    "a dense state": (lambda p: (network(1).state_dict(), p.masking.masks), "outside"),
    "masks of another seed": (lambda p: (p.model.state_dict(), training(seed=1).masking.masks), "outside"),
    "NaN outside the masks": (both(lambda s, m: s["4.weight"].masked_fill_(~m["4.weight"], nan)), "outside"),
    "a model": (lambda p: (p.model, p.masking.masks), "state"),
    "parameters": (lambda p: (list(p.model.parameters()), p.masking.masks), "state"),
    "None": (lambda p: (None, p.masking.masks), "state"),
    "a file": (lambda p: ("ticket.safetensors", p.masking.masks), "state"),
    "an optimizer's state": (lambda p: (p.optimizer.state_dict(), p.masking.masks), "state|0.weight"),
    "a masking's state": (lambda p: (p.masking.state_dict(), p.masking.masks), "state|0.weight"),
    "a checkpoint": (lambda p: ({"model": p.model.state_dict(), "epoch": 3}, p.masking.masks), "model|epoch|0.weight"),
    "an empty state": (lambda p: ({}, p.masking.masks), "0.weight"),
    "swapped": (lambda p: (p.masking.masks, p.model.state_dict()), "mask|running_mean|1.weight"),
    "a masking for masks": (lambda p: (p.model.state_dict(), p.masking), "masks"),
    "None for masks": (lambda p: (p.model.state_dict(), None), "masks"),
    "a list of masks": (lambda p: (p.model.state_dict(), list(p.masking.masks.values())), "masks"),
    "foreign names": (both(lambda s, m: s.update({f"net.{name}": s.pop(name) for name in list(s)})), "0.weight"),
    "a missing layer": (both(lambda s, m: s.pop("4.weight")), "4.weight"),
    "a mask of nothing": (both(lambda s, m: m.update({"5.weight": torch.ones(2, dtype=torch.bool)})), "5.weight"),
    "a mask of another shape": (both(lambda s, m: m.update({"4.weight": m["4.weight"].T})), "4.weight"),
    "a mask that would broadcast": (both(lambda s, m: m.update({"4.weight": m["4.weight"][:1]})), "4.weight"),
    "None for a mask": (both(lambda s, m: m.update({"4.weight": None})), "4.weight"),
    "a number for a weight": (both(lambda s, m: s.update({"4.weight": 0.5})), "4.weight"),
    "numbers for a mask": (both(lambda s, m: m.update({"4.weight": m["4.weight"].float()})), "4.weight"),
    "integers for a mask": (both(lambda s, m: m.update({"4.weight": m["4.weight"].long()})), "4.weight"),
    "integers for weights": (both(lambda s, m: s.update({"4.weight": s["4.weight"].long()})), "4.weight"),
    "a mask without an entry": (both(lambda s, m: m["4.weight"].zero_()), "4.weight|outside"),
    "on the meta device": (both(lambda s, m: s.update({"4.weight": s["4.weight"].to("meta")})), "4.weight|meta"),
}  # fmt: skip


@every(TAKEN, "make", "match")
def test_what_is_no_ticket_is_refused(make: Callable[[Parts], tuple[Any, Any]], match: str) -> None:
    parts = training()
    state, masks = make(parts)
    before = bits(parts.model.state_dict())
    refused(lambda: take_ticket(state, masks), match)
    assert bits(parts.model.state_dict()) == before


# ---- building a superposition ----------------------------------------------------------------------------------------

NAMES = ("0.weight", "4.weight")
BUILT: dict[str, tuple[dict[str, Any], str]] = {
    **{f"names={n!r:.30}": ({"names": n}, "names") for n in (None, "4.weight", 3, [None], [3], network())},
    **{
        f"count={count!r}": ({"count": count}, "count")
        for count in (None, "130", 130.5, nan, inf, -1, 0, 1, True, 0.2, [130])
    },
    **{f"method={m!r}": ({"method": m}, "superpose") for m in ("CIA", "", None, 0.8, True, ["cia"])},
    **{f"beta={b!r}": ({"method": "cima", "beta": b}, "beta") for b in (-0.1, 1.0, nan, inf, "0.8", None, True)},
    "method='CIA'": ({"method": "CIA"}, "superpose 'CIA' is unknown: choose one of cia, caa, cima"),
    "beta=1.0": ({"method": "cima", "beta": 1.0}, r"cima_beta 1 is not in \[0, 1\)"),
    "beta=-0.1": ({"method": "cima", "beta": -0.1}, r"cima_beta -0\.1 is not in"),
    "swapped": ({"names": NNZ, "count": list(NAMES)}, "names|count"),
}  # fmt: skip


@every(BUILT, "options", "match")
def test_a_superposition_of_nothing_is_refused(options: dict[str, Any], match: str) -> None:
    refused(lambda: Superposition(**({"names": NAMES, "count": NNZ} | options)), match)


# ---- adding to it ----------------------------------------------------------------------------------------------------


def ticket(seed: int = 0) -> Ticket:
    parts = training(seed=seed)
    return dict(take_ticket(parts.model.state_dict(), parts.masking.masks))


def but(**change: Callable[[Tensor], Any]) -> Callable[[], Ticket]:
    """A ticket with its last weight changed."""

    def make() -> Ticket:
        changed = ticket()
        changed["4.weight"] = change["to"](changed["4.weight"])
        return changed

    return make


def with_one(value: float) -> Callable[[Tensor], Tensor]:
    def write(weight: Tensor) -> Tensor:
        weight[weight.nonzero()[0, 0], weight.nonzero()[0, 1]] = value
        return weight

    return write


def without(name: str) -> Ticket:
    return {other: tensor for other, tensor in ticket().items() if other != name}


def bias_of(value: float) -> Ticket:
    return ticket() | {"4.bias": torch.full((10,), value)}


NO_TICKET: dict[str, tuple[Callable[[], Any], str]] = {
    "None": (lambda: None, "ticket"),
    "a model": (network, "ticket"),
    "a file": (lambda: "ticket.safetensors", "ticket"),
    "a list of tickets": (lambda: [ticket(), ticket()], "ticket"),
    "empty": (dict, "0.weight"),
    "masks": (lambda: training().masking.masks, "running_mean|1.weight|0.weight"),
    "a masking's state": (lambda: training().masking.state_dict(), "ticket|0.weight|target"),
    "a layer less": (lambda: without("4.weight"), "4.weight"),
    "foreign names": (lambda: {f"net.{n}": t for n, t in ticket().items()}, "0.weight"),
    "NaN": (but(to=with_one(nan)), "4.weight"),
    "infinite": (but(to=with_one(inf)), "4.weight"),
    "NaN in a bias": (lambda: bias_of(nan), "4.bias"),
    "minus infinity in a bias": (lambda: bias_of(-inf), "4.bias"),
    "integers": (but(to=lambda weight: weight.long()), "4.weight"),
    "complex": (but(to=lambda weight: weight + 0j), "4.weight"),
    "a list of numbers": (but(to=lambda weight: weight.tolist()), "4.weight"),
    "None for a weight": (but(to=lambda weight: None), "4.weight"),
    "on the meta device": (but(to=lambda weight: weight.to("meta")), "4.weight|meta"),
}  # fmt: skip
COMPARED: dict[str, tuple[Callable[[], Any], str]] = {  # wrong beside the tickets before it
    "a bias less": (lambda: without("4.bias"), "4.bias"),
    "a statistic less": (lambda: without("1.running_mean"), "1.running_mean"),
    "a layer more": (lambda: ticket() | {"5.weight": torch.ones(2)}, "5.weight"),
    "transposed": (but(to=lambda weight: weight.T), "4.weight"),
    "of a shape that would broadcast": (but(to=lambda weight: weight[:1]), "4.weight"),
}


@pytest.mark.parametrize("method", ["cia", "caa", "cima"])
@every(NO_TICKET | COMPARED, "make", "match")
def test_a_ticket_that_does_not_fit_the_average_is_refused_and_the_average_stays(
    make: Callable[[], Any], match: str, method: str
) -> None:
    superposition = Superposition(NAMES, NNZ, method)
    superposition.add(ticket())
    before = bits(superposition.average), bits(superposition.activations)
    refused(lambda: superposition.add(make()), match)
    assert (bits(superposition.average), bits(superposition.activations), superposition.tickets) == (*before, 1)


@every(NO_TICKET, "make", "match")
def test_a_first_ticket_that_is_none_is_refused(make: Callable[[], Any], match: str) -> None:
    superposition = Superposition(NAMES, NNZ, "caa")
    refused(lambda: superposition.add(make()), match)
    assert (superposition.tickets, superposition.average, superposition.activations) == (0, {}, {})
    superposition.add(ticket())
    assert sum(int(superposition.ticket()[name].count_nonzero()) for name in NAMES) == NNZ


def test_a_ticket_of_no_tickets_is_refused() -> None:
    refused(Superposition(NAMES, NNZ).ticket, "no ticket")
    refused(Superposition((), 0).ticket, "no ticket")


def test_more_connections_than_there_are_weights_are_refused() -> None:
    superposition = Superposition(NAMES, NUM_WEIGHTS + 1)
    refused(lambda: superposition.add(ticket()), "count")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_tickets_of_other_precisions_are_averaged(dtype: torch.dtype) -> None:
    superposition = Superposition(NAMES, NNZ)
    first, second = ticket(), {n: t.to(dtype) if t.is_floating_point() else t for n, t in ticket().items()}
    superposition.add(first)
    superposition.add(second)
    made = superposition.ticket()
    for name, tensor in first.items():
        assert torch.allclose(made[name].double(), tensor.double(), rtol=1e-2, atol=1e-4), name
