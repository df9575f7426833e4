"""`--bn recompute`: the mean over one whole epoch of training batches, computed here by formula."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from safetensors.torch import load_file
from torch import Tensor, nn

from tests.tiny import NETWORKS, SPARSE, SUP_TICKETS, load_images, main, restored
from utils.training.evaluation import recompute_batch_norm

BATCH = 16


def statistics(batches: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Mean and unbiased variance of each channel, each batch counting alike."""
    moments = [torch.stack((x.mean((0, 2, 3)), x.var((0, 2, 3), correction=1))) for x in batches]
    return tuple(torch.stack(moments).mean(0))  # type: ignore[return-value]


@pytest.mark.parametrize("images", [48, 96])
def test_statistics_are_the_mean_of_those_of_all_batches_of_an_epoch(images: int) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 5, 3), nn.BatchNorm2d(5))
    order = load_images("", None, "cpu", limit_train=images).train.epoch(3, 4)
    batches = [order.batch(start, start + BATCH)[0] for start in range(0, images, BATCH)]
    model(torch.randn(8, 3, 32, 32))  # what they were before
    weights = {name: parameter.clone() for name, parameter in model.named_parameters()}
    with restored():
        recompute_batch_norm(Accelerator(cpu=True), model.eval(), order, BATCH)
    first = [F.conv2d(x, model[0].weight, model[0].bias) for x in batches]
    normed = [F.batch_norm(x, None, None, model[1].weight, model[1].bias, training=True) for x in first]
    second = [F.conv2d(x.relu(), model[3].weight, model[3].bias) for x in normed]
    for layer, inputs in ((model[1], first), (model[4], second)):
        mean, variance = statistics(inputs)
        torch.testing.assert_close(layer.running_mean, mean)
        torch.testing.assert_close(layer.running_var, variance)
        assert layer.momentum == 0.1  # as it was
    assert not model.training
    assert all(torch.equal(parameter, weights[name]) for name, parameter in model.named_parameters())


def test_a_superposed_ticket_has_those_of_the_epoch_that_would_come_next(tmp_path: Path) -> None:
    """Of its own weights, not of the model's that trained on."""
    words = (*SPARSE, *SUP_TICKETS, "--model", "tiny", "--limit-train", "48", "--bn", "recompute", "--save-tickets")
    assert main(tmp_path, *words, "--seed", "5")[0] == 0
    ticket = load_file(tmp_path / "ticket.safetensors")
    order = load_images("tiny", None, "cpu", limit_train=48).train.epoch(5, 8)
    batches = [order.batch(start, start + BATCH)[0] for start in range(0, 48, BATCH)]
    mean, variance = statistics([F.conv2d(x, ticket["0.weight"], stride=4) for x in batches])
    torch.testing.assert_close(ticket["1.running_mean"], mean, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(ticket["1.running_var"], variance, rtol=1e-4, atol=1e-6)
    last = load_file(tmp_path / "tickets/ticket-2.safetensors")  # each ticket keeps its own, as it was trained
    assert not torch.allclose(last["1.running_mean"], mean, rtol=1e-2)
    assert {*ticket} == {*NETWORKS["tiny"](10, 1.0).state_dict()}
