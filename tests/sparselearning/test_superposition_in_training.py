"""Tickets hold all connections of a network in training, which never notices; superposed, they train on."""

import pytest
import torch
from torch import nn

from sparselearning import Masking, Superposition, take_ticket
from tests.exact import bits
from tests.networks import NUM_WEIGHTS, network, train, training
from tests.tickets import TICKETS, every_method


@every_method
@pytest.mark.parametrize("written", ["ticket taken", "ticket superposed"])
def test_writing_into_a_ticket_changes_no_superposition(method: str, written: str) -> None:
    superposition = Superposition(["w"], 2, method)
    taken = take_ticket(TICKETS[0], {})
    superposition.add(taken)
    before = bits(superposition.ticket())
    for tensor in (taken if written == "ticket taken" else superposition.ticket()).values():
        tensor.fill_(7)
    assert bits(superposition.ticket()) == before


@every_method
def test_superposing_one_ticket_is_the_identity(method: str) -> None:
    model, optimizer, masking = training(steps=0, update_frequency=1000)
    train(model, optimizer, range(3))
    superposition = Superposition(masking.masks, masking.target_nnz, method)
    superposition.add(take_ticket(model.state_dict(), masking.masks))
    assert bits(superposition.ticket()) == bits(model.state_dict())


@every_method
def test_training_goes_on_as_if_no_ticket_had_been_taken(method: str) -> None:
    ends = []
    for with_tickets in (False, True):
        model, optimizer, masking = training(steps=0, update_frequency=1000)
        superposition = Superposition(masking.masks, masking.target_nnz, method)
        for cycle in range(3):
            masking.explore(0.5)
            train(model, optimizer, range(4 * cycle, 4 * cycle + 4))
            if with_tickets:
                before = bits(model.state_dict())
                taken = take_ticket(model.state_dict(), masking.masks)
                superposition.add(taken)
                superposed = superposition.ticket()
                for tensor in (*taken.values(), *superposed.values()):
                    tensor.fill_(7)  # copies, all of them
                assert bits(model.state_dict()) == before
        ends.append([bits(part.state_dict()) for part in (model, optimizer, masking)])
    assert ends[0] == ends[1]


def test_a_ticket_of_three_cycles_has_its_batch_norm_averaged_and_counted() -> None:
    model, optimizer, masking = training(steps=0, update_frequency=1000)
    superposition = Superposition(masking.masks, masking.target_nnz, "cia")
    means = []
    for cycle in range(3):
        train(model, optimizer, range(4 * cycle, 4 * cycle + 4))
        superposition.add(take_ticket(model.state_dict(), masking.masks))
        means.append(model[1].running_mean.clone())
    superposed = superposition.ticket()
    torch.testing.assert_close(superposed["1.running_mean"], sum(means) / 3)
    assert (superposed["1.num_batches_tracked"].dtype, superposed["1.num_batches_tracked"].item()) == (torch.int64, 12)
    fresh = network()
    fresh.load_state_dict(superposed)
    assert sum(int(fresh.get_parameter(name).count_nonzero()) for name in masking.masks) == round(0.2 * NUM_WEIGHTS)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
@every_method
def test_connections_that_are_zero_stay_connections(method: str, dtype: torch.dtype) -> None:
    """Grown, never reached by a gradient: the ticket keeps them, too small to matter."""
    state = {"w": torch.tensor([0.0, 5.0, 0.0, 0.0, -1.0], dtype=dtype)}
    masks = {"w": torch.tensor([False, True, False, True, True])}
    before = bits({"w": state["w"].double()})
    taken = take_ticket(state, masks)
    assert bits({"w": state["w"].double()}) == before
    assert (taken["w"] != 0).tolist() == masks["w"].tolist()
    assert 0 < taken["w"][3] < 1e-29
    superposition = Superposition(["w"], 3, method)
    superposition.add(taken)
    assert torch.equal(superposition.ticket()["w"], taken["w"])


def test_connection_aware_averaging_counts_connections_that_are_zero() -> None:
    superposition = Superposition(["w"], 1, "caa")
    for weight, active in ((0.0, True), (6.0, True), (0.0, False)):
        superposition.add(take_ticket({"w": torch.tensor([weight, 0.0])}, {"w": torch.tensor([active, False])}))
    assert superposition.ticket()["w"].tolist() == pytest.approx([3.0, 0.0])  # active twice


@every_method
@pytest.mark.parametrize("prune", ["every", "last"])
def test_tied_weights_stay_tied_in_tickets_and_their_superposition(method: str, prune: str) -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(6, 6), nn.Linear(6, 6)
            self.second.weight = self.first.weight

    model = Tied()
    masking = Masking(model, torch.optim.SGD(model.parameters(), lr=0.1), "set", 0.5)
    superposition = Superposition(masking.masks, masking.target_nnz, method, prune=prune)
    for _ in range(3):
        masking.update_topology(0.5, "random")
        model.first.weight.data = torch.randn(6, 6) * masking.masks["first.weight"]
        model.second.weight = model.first.weight
        ticket = take_ticket(model.state_dict(), masking.masks)
        assert ticket["first.weight"] is ticket["second.weight"]
        superposition.add(ticket)
    superposed = superposition.ticket()
    assert superposed["first.weight"] is superposed["second.weight"]
    assert int(superposed["second.weight"].count_nonzero()) == masking.target_nnz == 18
    model.load_state_dict(superposed)
    assert model.second.weight.tolist() == superposed["first.weight"].tolist()
