"""The gradient of a step: of all parts of its batch, clipped by the connections that exist."""

import contextlib
from collections.abc import Iterator
from unittest import mock

import pytest
import torch
from torch import Tensor
from torch.optim.optimizer import register_optimizer_step_pre_hook

import utils.training.loop
from tests.tiny import SPARSE, SUP_TICKETS, main
from utils.training.run import Run

RUN = (*SPARSE, *SUP_TICKETS, "--model", "plain")


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
