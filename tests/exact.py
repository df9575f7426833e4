"""What sparse training must leave behind in any loop: exact counts, zeros outside the masks, and the same bits."""

import copy
import hashlib
import io
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from sparselearning import Exploration, Masking, Superposition, take_ticket
from sparselearning.phases import normal_phase, sup_tickets
from tests.networks import NNZ

STEPS, EVERY, UPDATES = 50, 15, 3  # connections move at steps 15, 30 and 45 of 50
DENSITY = 0.2
# 20 steps as ever and three cycles of 10, each with a ticket
PLAN = sup_tickets(normal_phase(2, 10, 0.01, milestones=(0.5,)), 3, 10, 0.001, 0.005, [Exploration(0.5)])
RIGL = {"method": "rigl", "density": DENSITY, "update_frequency": EVERY, "total_steps": STEPS}


def bits(value: Any) -> Any:
    """What it holds, to the bit: equal where a restart would not see a difference; NaN equals itself, -0.0 is not 0.0.

    Tensors become a digest of their bytes, which later changes do not reach and which is short where a test fails.
    """
    if isinstance(value, Mapping):
        return {key: bits(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [bits(item) for item in value]
    if not isinstance(value, Tensor):
        return value
    content = value.detach().contiguous().flatten().view(torch.uint8).numpy().tobytes()
    return f"{value.dtype} {tuple(value.shape)} {hashlib.sha256(content).hexdigest()[:16]}"


def through_a_file(state: Any) -> Any:
    """As it comes back from a checkpoint."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def optimizer_state(optimizer: torch.optim.Optimizer, weight: Tensor) -> dict[str, Tensor]:
    """The numbers that it remembers for each single weight."""
    state = optimizer.state[weight].items()
    return {name: s for name, s in state if isinstance(s, Tensor) and s.shape == weight.shape}


def check_sparse(masking: Masking, nnz: int = NNZ) -> None:
    """The masks have `nnz` entries, the bookkeeping says so, and outside them weights and optimizer state are zero."""
    assert sum(int(mask.sum()) for mask in masking.masks.values()) == nnz
    assert masking.active == {name: int(mask.sum()) for name, mask in masking.masks.items()}
    assert masking.nnz == nnz
    for name, mask in masking.masks.items():
        weight = masking.weights[name]
        assert mask.dtype == torch.bool
        assert mask.any()
        assert bits(weight[~mask]) == bits(torch.zeros_like(weight[~mask])), name  # +0.0
        assert (masking.ever_active[name] | ~mask).all()
        for key, state in optimizer_state(masking.optimizer, weight).items():
            assert (state[~mask] == state[~mask][:1]).all(), (name, key)  # 0, or as it was at first


class Exact:
    """To be called after every step, while the gradients are still there.

    Args:
        model: without wrappers; its names are those of the masks.
        done: steps before the first call.
    """

    def __init__(self, masking: Masking, model: nn.Module, done: int = 0) -> None:
        self.masking, self.model, self.steps = masking, model, done
        self.parameters = dict(model.named_parameters())
        assert masking.masks.keys() <= self.parameters.keys()
        self.num_weights = sum(self.parameters[name].numel() for name in masking.masks)
        self.before = copy.deepcopy(masking.masks)

    def __call__(self) -> None:
        self.steps += 1
        masks = self.masking.masks
        assert (self.masking.step, self.masking.updates) == (self.steps, self.steps // EVERY)
        assert sum(int(mask.sum()) for mask in masks.values()) == round(DENSITY * self.num_weights)
        for name, mask in masks.items():
            weight = self.parameters[name]
            assert not weight[~mask].any(), name
            # the optimizer met the gradient while the masks were still the old ones
            assert weight.grad is None or not weight.grad[~self.before[name]].any(), name
            for key, state in optimizer_state(self.masking.optimizer, weight).items():
                assert not state[~mask].any(), (name, key)
        self.before = copy.deepcopy(masks)

    def end(self) -> dict[str, Tensor]:
        """All steps are done: connections have moved. Returns the ticket, checked against the model."""
        assert (self.steps, self.masking.updates) == (STEPS, UPDATES)
        assert self.masking.grown > 0
        state = self.model.state_dict()
        ticket = take_ticket(state, self.masking.masks)
        for name, tensor in state.items():
            if name in self.masking.masks:
                assert torch.equal(ticket[name] != 0, self.masking.masks[name]), name
            assert torch.allclose(ticket[name], tensor, rtol=0, atol=1e-20), name
        return ticket


def superposed(masking: Masking, states: Iterable[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The ticket of these networks, whose connections are their non-zeros."""
    superposition = Superposition(masking.masks, masking.target_nnz)
    for state in states:
        superposition.add(take_ticket(state, {name: state[name] != 0 for name in masking.masks}))
    return superposition.ticket()
