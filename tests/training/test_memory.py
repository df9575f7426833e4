"""What a run holds while it trains."""

import pytest
import torch
from torch import nn

from sparselearning import Masking
from tests.allocated import bytes_of, living
from tests.tiny import METHODS, SPARSE, SUP_TICKETS, main
from utils.training import loop
from utils.training.changes import Changes

RUN = (*SPARSE, *SUP_TICKETS, *METHODS["rigl"], "--model", "norm")
STEPS = 3  # of an epoch, whose batches differ in size


@pytest.mark.parametrize("bn", ["average", "recompute"])
def test_in_the_cycles_a_run_holds_one_copy_of_the_network_more_than_before(bn, tmp_path, monkeypatch):
    """The running average; no ticket, no superposed one, and no masks of before."""
    held, network = {0: [], 1: []}, 0
    backward = loop._backward

    def watched(run, *arguments):
        nonlocal network
        network = bytes_of(run.model.state_dict().values())
        held[run.superposition.tickets].append(living())
        return backward(run, *arguments)

    monkeypatch.setattr(loop, "_backward", watched)
    assert main(tmp_path / "run", *RUN, "--bn", bn)[0] == 0
    assert len(held[1]) == 2 * STEPS and network > 5_000
    for step, cycle in enumerate(held[1]):
        assert cycle - held[0][STEPS + step] == pytest.approx(network, abs=100)


def test_changes_hold_masks_within_a_step_alone():
    model = nn.Linear(100, 100)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    masking = Masking(model, optimizer, density=0.2, update_frequency=2)
    changes, held = Changes(masking), []
    for step in range(1, 6):
        model.weight.grad = torch.randn(100, 100)
        optimizer.step()
        assert changes.note(step) == (step % 2 == 0)
        optimizer.zero_grad()
        held.append(living())
    assert max(held) < held[0] + 100
