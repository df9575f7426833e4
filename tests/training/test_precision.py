"""Skipped steps, clipping, parts of batches, half precision, compiling and divergence, as training meets them."""

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

import utils.training.loop
from sparselearning import Masking, UsageError
from tests.outcomes import differences, last_state, outcome
from tests.tiny import NETWORKS, SPARSE, SUP_TICKETS, Tiny, main
from utils.command_line.options import Options
from utils.training.build import make_accelerator
from utils.training.run import Run

RUN = (*SPARSE, *SUP_TICKETS, "--model", "plain")

# ---- steps that fp16's gradient scaler skips -----------------------------------------------------------------------

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


# ---- gradients -----------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def gradients() -> Iterator[list[list[Tensor]]]:
    """What the optimizer gets to see at each step."""
    seen: list[list[Tensor]] = []

    def record(optimizer: torch.optim.Optimizer, *_: object) -> None:
        seen.append([p.grad.clone() for group in optimizer.param_groups for p in group["params"]])

    hook = register_optimizer_step_pre_hook(record)
    try:
        yield seen
    finally:
        hook.remove()


@pytest.mark.parametrize("size, parts", [(8, 2), (4, 4), (2, 8)])
def test_parts_add_up_to_the_gradient_of_the_whole_batch(size, parts, tmp_path):
    """Of 45 images, the last batch has 13: its parts are of unequal size and each image counts the same."""
    options = (*SPARSE, "--limit-train", "45", "--epochs", "2", "--model", "exact", "--method", "static")
    with gradients() as whole:
        assert main(tmp_path / "whole", *options)[0] == 0
    cut = ("--batch-size", str(size), "--gradient-accumulation-steps", str(parts))
    with gradients() as added:
        status, _, err = main(tmp_path / "cut", *options, *cut)
    if 2 * parts > 13:  # batch norm needs two images in each part
        assert len(added) == 4
        return
    assert (status, err) == (0, "")
    assert len(whole) == len(added) == 6
    for one, other in zip(whole, added, strict=True):
        for a, b in zip(one, other, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


def test_clipping_sees_the_connections_that_exist_only(tmp_path):
    """The coefficient is that of the sub-network, also on a step whose gradients stay dense for growth to read."""
    coefficients, original = [], utils.training.loop._clip_gradients

    def clip(run: Run, norm: float) -> None:
        before = {name: p.grad.clone() for name, p in run.model.named_parameters()}
        active = [g[run.masks[name]] if name in run.masks else g.flatten() for name, g in before.items()]
        expected = min(1.0, norm / (torch.cat(active).norm().item() + 1e-6))
        dense = min(1.0, norm / (torch.cat([g.flatten() for g in before.values()]).norm().item() + 1e-6))
        original(run, norm)
        for name, p in run.model.named_parameters():
            torch.testing.assert_close(p.grad, before[name] * expected)
        coefficients.append((expected, dense))

    with mock.patch.object(utils.training.loop, "_clip_gradients", clip):
        assert main(tmp_path, *RUN, "--clip-grad-norm", "0.05")[0] == 0
    assert len(coefficients) == 24
    assert all(dense < expected < 1 for expected, dense in coefficients)


# ---- bf16, compile, divergence -------------------------------------------------------------------------------------


def test_bf16_trains_and_keeps_single_precision_weights(tmp_path):
    status, _, err = main(tmp_path, *SPARSE, *SUP_TICKETS, "--model", "tiny", "--mixed-precision", "bf16")
    assert (status, err) == (0, "")
    ticket = load_file(tmp_path / "ticket.safetensors")
    assert {t.dtype for t in ticket.values() if t.is_floating_point()} == {torch.float32}
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["nnz"] == round(0.2 * summary["maskable"])
    losses = [row["loss"] for row in last_state(tmp_path)["history"]]
    assert losses[-1] < losses[0]


def test_fp16_needs_a_gpu_and_says_so(tmp_path):
    status, _, err = main(tmp_path, *RUN, "--mixed-precision", "fp16")
    assert status == 2
    assert err.count("\n") == 1
    assert "bf16" in err


def test_compiling_leaves_no_trace_in_names(tmp_path):
    """Traced, but run by torch's own kernels, so that no compiler is needed and the results are the same."""
    compile_in_place = nn.Module.compile

    def traced(module: nn.Module, **how: object) -> None:
        compile_in_place(module, backend="aot_eager")

    options = (*SPARSE, *SUP_TICKETS, "--model", "norm", "--method", "rigl")
    with mock.patch.object(nn.Module, "compile", traced):
        assert main(tmp_path / "compiled", *options, "--compile", stop=15)[0] == 143
        assert main(tmp_path / "compiled", *options, "--compile", "--resume", "auto")[0] == 0
    assert main(tmp_path / "plain", *options)[0] == 0
    compiled, plain = outcome(tmp_path / "compiled"), outcome(tmp_path / "plain")
    for part in ("model", "masking", "superposition"):
        assert names(compiled["state"][part]) == names(plain["state"][part])
    assert names(compiled["tickets"]) == names(plain["tickets"])
    assert differences(compiled["tickets"], plain["tickets"]) == []


def names(value: object) -> list[str]:
    if not isinstance(value, dict):
        return []
    return [f"{key}/{name}" for key, item in value.items() for name in ("", *names(item))]


def diverging(classes: int, width: float) -> nn.Module:
    """Its loss is not a number from the first step on."""
    model = Tiny(classes, width, norm=False)
    nn.init.constant_(model[4].bias, float("inf"))
    return model


@pytest.mark.parametrize("options", [(), ("--sup-tickets", "--cycle-epochs", "2", "--num-tickets", "2"),
                                     ("--gradient-accumulation-steps", "2", "--batch-size", "8")])  # fmt: skip
def test_a_loss_that_is_not_a_number_ends_the_run_in_one_line(options, tmp_path, monkeypatch):
    monkeypatch.setitem(NETWORKS, "plain", diverging)
    status, _, err = main(tmp_path, *SPARSE, "--epochs", "8", *options, "--model", "plain")
    assert status == 2
    assert err.count("\n") == 1
    assert "step 3" in err
    assert "learning rate 0.2" in err
    assert not (tmp_path / "checkpoints").exists(), "nothing of it is saved"


def test_a_signal_does_not_save_what_is_not_a_number(tmp_path, monkeypatch):
    monkeypatch.setitem(NETWORKS, "plain", diverging)
    status, _, err = main(tmp_path, *SPARSE, "--epochs", "8", "--model", "plain", stop=2)
    assert status == 2
    assert "learning rate" in err
    assert not list(Path(tmp_path).glob("checkpoints/*"))
