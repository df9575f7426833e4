"""Steps that fp16's gradient scaler skips change nothing."""

import contextlib
from collections.abc import Callable, Iterator
from unittest import mock

import pytest
import torch
from accelerate import Accelerator
from torch import nn

import utils.training.loop
from sparselearning import Masking, UsageError
from tests.outcomes import differences, last_state, outcome
from tests.tiny import SPARSE, SUP_TICKETS, Tiny, main
from utils.command_line.options import Options
from utils.training.build import make_accelerator
from utils.training.run import Run

RUN = (*SPARSE, *SUP_TICKETS, "--model", "plain")
OPTIMIZERS: dict[str, Callable[[nn.Module], torch.optim.Optimizer]] = {
    "sgd": lambda model: torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01),
    "adamw": lambda model: torch.optim.AdamW(model.parameters(), lr=0.01),
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("growth", ["random", "gradient", "momentum"])
@pytest.mark.parametrize("unscale", [False, True])
def test_a_skipped_step_changes_nothing(optimizer, growth, unscale):
    """Steps 2 and 4 are due to move connections; an infinity comes before each, and the batch is tried again."""
    assert differences(trained(optimizer, growth, unscale, {2, 4}), trained(optimizer, growth, unscale, set())) == []


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.AdamW])
def test_a_scaler_with_a_fused_optimizer_is_refused(kind):
    """It skips a step within the step, out of sight of any hook."""
    model, scaler = Tiny(10), torch.amp.GradScaler("cpu")
    optimizer = kind(model.parameters(), lr=0.1, fused=True)
    masking = Masking(model, optimizer, "rigl", 0.2)
    scaler.scale(model(torch.randn(4, 3, 32, 32)).square().mean()).backward()
    with pytest.raises(UsageError, match="fused=False"):
        scaler.step(optimizer)
    assert masking.step == 0


def trained(optimizer_name: str, growth: str, unscale: bool, overflows: set[int]) -> list[dict[str, object]]:
    """The state after each of 6 steps; before those in `overflows` comes an attempt with an infinite gradient."""
    torch.manual_seed(0)
    model = Tiny(10, norm=False, dropout=0)
    optimizer = OPTIMIZERS[optimizer_name](model)
    masking = Masking(model, optimizer, "rigl", 0.2, growth=growth, update_frequency=2)
    # a power of two, so that scaling does not round; it stays what it is
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_factor=2.0, backoff_factor=0.5)
    states = []
    for step in range(1, 7):
        batch = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(step))
        for overflow in ([True] if step in overflows else []) + [False]:
            scaler.scale(model(batch).square().mean()).backward()
            if unscale:
                scaler.unscale_(optimizer)
            if overflow:
                before = state_of(model, optimizer, masking)
                model[0].weight.grad[0, 0, 0, 0] = torch.inf
                if unscale:  # found when unscaling, which is over: tell as it does
                    scaler._per_optimizer_states[id(optimizer)]["found_inf_per_device"][torch.device("cpu")].fill_(1)
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()
            if overflow:
                assert differences(before, state_of(model, optimizer, masking)) == []
        states.append(state_of(model, optimizer, masking))
    assert masking.step == 6
    assert masking.grown > 0
    return states


def state_of(model: nn.Module, optimizer: torch.optim.Optimizer, masking: Masking) -> dict[str, object]:
    own = [{k: v.clone() for k, v in state.items()} for state in optimizer.state.values()]
    parts = masking.state_dict()
    kept = ("masks", "explored", "dense_momentum")
    tensors = {part: {name: t.clone() for name, t in parts[part].items()} for part in kept}
    weights = {name: p.detach().clone() for name, p in model.named_parameters()}
    return {**parts, **tensors, "weights": weights, "optimizer": own}


@contextlib.contextmanager
def scaler_and_infinities(*attempts: int) -> Iterator[None]:
    """A gradient scaler in main_cifar.py, and an infinity in the gradients of these attempts at a step, from 1."""
    original, made = utils.training.loop._backward, 0

    def make(args: Options) -> Accelerator:
        accelerator = make_accelerator(args)
        accelerator.scaler = scaler = torch.amp.GradScaler("cpu")
        accelerator.unscale_gradients = lambda optimizer: scaler.unscale_(optimizer.optimizer)
        return accelerator

    def backward(run: Run, *args: object) -> object:
        nonlocal made
        made += 1
        counted = original(run, *args)
        if made in attempts:
            next(run.model.parameters()).grad[0, 0, 0, 0] = torch.inf
        return counted

    with mock.patch("main_cifar.make_accelerator", make), mock.patch.object(utils.training.loop, "_backward", backward):
        yield


@pytest.mark.parametrize("options", [("--method", "rigl"), ("--method", "granet", "--prune-end", "0.3"),
                                     ("--method", "set", "--clip-grad-norm", "0.5")], ids="-".join)  # fmt: skip
def test_a_run_with_skipped_steps_ends_as_one_without(options, tmp_path):
    """At the first step, at a topology update, at the exploration that begins a cycle; also when it is cut."""
    assert main(tmp_path / "without", *RUN, *options)[0] == 0
    with scaler_and_infinities(1, 5, 6, 17):
        assert main(tmp_path / "with", *RUN, *options)[0] == 0
    with scaler_and_infinities(1, 5, 6):
        assert main(tmp_path / "cut", *RUN, *options, stop=9)[0] == 143
    scale = last_state(tmp_path / "cut")["scaler"]["scale"]
    assert scale == 2.0**16 / 2**3
    with scaler_and_infinities(17 - 9 - 3):
        assert main(tmp_path / "cut", *RUN, *options, "--resume", "auto")[0] == 0
    without, skipped, cut = (outcome(tmp_path / name) for name in ("without", "with", "cut"))
    assert differences(skipped, cut) == []
    for one in (without, skipped):
        one["state"].pop("scaler")
    assert differences(without, skipped) == []


def test_gradients_that_stay_infinite_end_the_run_in_one_line(tmp_path):
    with scaler_and_infinities(*range(4, 1000)):
        status, _, err = main(tmp_path, *RUN)
    assert status == 2
    assert err.count("\n") == 1
    assert "step 3" in err
    assert "learning rate 0.2" in err
