"""Masking keeps a network sparse under each optimizer that torch has, or says why it cannot."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sparselearning import Masking, UsageError
from tests.exact import optimizer_state
from tests.networks import backward, network

# options where the defaults would not do; what is not 2-D is left to another optimizer with Muon
OPTIONS: dict[str, dict[str, Any]] = {
    "SGD": {"lr": 0.1, "momentum": 0.9},
    "Adagrad": {"initial_accumulator_value": 0.3},
    "Muon": {"lr": 0.02},
}
SPARSE_ONLY = "SparseAdam"  # takes gradients of sparse layout, which no layer here has
NAMES = sorted(
    name
    for name, kind in vars(torch.optim).items()
    if isinstance(kind, type) and issubclass(kind, torch.optim.Optimizer) and name not in ("Optimizer", SPARSE_ONLY)
)
# outside the masks the state of a weight is what it is before the first step
INITIAL = {("Adagrad", "sum"): 0.3, ("Rprop", "step_size"): 0.01}


def optimizer_of(name: str, model: nn.Module) -> tuple[torch.optim.Optimizer, list[str]]:
    """The optimizer and what must stay dense for it."""
    parameters, exempt = list(model.parameters()), []
    if name == "Muon":
        parameters, exempt = [p for p in parameters if p.ndim == 2], ["0.weight"]
    return getattr(torch.optim, name)(parameters, **OPTIONS.get(name, {})), exempt


def closure_of(model: nn.Module, optimizer: torch.optim.Optimizer, step: int) -> Any:
    def closure() -> Tensor:
        optimizer.zero_grad()
        return backward(model, step)

    return closure


def test_the_list_is_that_of_torch() -> None:
    assert {"SGD", "Adam", "AdamW", "Adamax", "NAdam", "RAdam", "Adadelta", "Adagrad", "Adafactor", "ASGD", "RMSprop",
            "Rprop", "LBFGS"} <= {*NAMES}  # fmt: skip


@pytest.mark.parametrize("name", [name for name in NAMES if name != "LBFGS"])
@pytest.mark.parametrize("method", ["set", "rigl"])
def test_twelve_steps_and_five_updates_are_exact(name: str, method: str) -> None:
    model = network()
    optimizer, exempt = optimizer_of(name, model)
    masking = Masking(model, optimizer, method, 0.3, update_frequency=2, total_steps=12, exempt=exempt)
    for step in range(12):
        closure_of(model, optimizer, step)()
        before = copy.deepcopy(masking.masks)
        optimizer.step()
        for layer, mask in masking.masks.items():
            weight = masking.weights[layer]
            assert not weight[~mask].any()
            assert not weight.grad[~before[layer]].any()
            for key, state in optimizer_state(optimizer, weight).items() if name != "Muon" else ():
                expected = torch.tensor(INITIAL.get((name, key), 0.0))
                assert torch.isclose(state[~mask], expected, atol=2e-8).all(), key  # Adamax adds 1e-8 to zero
    assert masking.nnz == masking.target_nnz == sum(int(mask.sum()) for mask in masking.masks.values())
    assert (masking.step, masking.updates) == (12, 5)
    assert all(weight.isfinite().all() for weight in masking.weights.values())


@pytest.mark.parametrize(("method", "works"), [("static", True), ("set", False), ("rigl", False)])
def test_lbfgs_evaluates_again_and_again_between_which_no_connection_can_move(method: str, works: bool) -> None:
    model = network()
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.5, max_iter=5)
    masking = Masking(model, optimizer, method, 0.3, update_frequency=2)
    if not works:
        with pytest.raises(UsageError, match="LBFGS evaluates the loss several times in a step"):
            optimizer.step(closure_of(model, optimizer, 0))
        return
    losses = [float(optimizer.step(closure_of(model, optimizer, 0))) for _ in range(6)]
    assert losses[-1] < 0.5 * losses[0]
    assert all(not masking.weights[name][~mask].any() for name, mask in masking.masks.items())


@pytest.mark.skipif("Muon" not in NAMES, reason="torch has no Muon yet")
def test_weights_that_muon_does_not_hold_are_to_be_left_dense() -> None:
    model = network()
    optimizer, _ = optimizer_of("Muon", model)
    with pytest.raises(UsageError, match=r"does not hold 0\.weight .* leave dense what another optimizer holds"):
        Masking(model, optimizer, "rigl", 0.3)


@pytest.mark.parametrize(("name", "key"), [("Adagrad", "sum"), ("Rprop", "step_size"), ("Adam", "exp_avg_sq")])
def test_a_grown_weight_starts_with_the_state_of_a_new_optimizer(name: str, key: str) -> None:
    model = network()
    optimizer, _ = optimizer_of(name, model)
    masking = Masking(model, optimizer, "rigl", 0.3, update_frequency=100)
    for step in range(4):
        closure_of(model, optimizer, step)()
        optimizer.step()
    closure_of(model, optimizer, 4)()
    before = copy.deepcopy(masking.masks)
    masking.update_topology(0.5, "gradient")
    states = {layer: optimizer.state[weight][key] for layer, weight in masking.weights.items()}
    grown = torch.cat([states[layer][mask & ~before[layer]] for layer, mask in masking.masks.items()])
    assert grown.tolist() == pytest.approx([INITIAL.get((name, key), 0.0)] * len(grown), rel=1e-6)
    assert len(grown) > 20
