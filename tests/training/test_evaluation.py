"""Evaluation leaves a model as it was and builds no graph, and an image's numbers depend on no other image."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor, nn

from tests.tiny import Tiny, load_images, restored
from utils.data.protocol import Images
from utils.run_folder.tickets import save_ticket
from utils.training import evaluation
from utils.training.evaluation import evaluate, evaluate_tickets, recompute_batch_norm

LABELS = torch.arange(37) % 10


class Seen(nn.Module):
    """Takes down how it was called."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[bool, bool]] = []

    def forward(self, x: Tensor) -> Tensor:
        self.calls.append((self.training, torch.is_grad_enabled()))
        return x


def network(seed: int) -> Tiny:
    torch.manual_seed(seed)
    model = Tiny(10, dropout=0.5)
    model[0].weight.data.mul_(3)  # so that predictions differ
    model(torch.randn(8, 3, 32, 32))
    model.add_module("seen", Seen())
    return model


@pytest.fixture
def images() -> Images:
    return load_images("", None, "cpu").test


def logits(model: nn.Module, images: Images) -> Tensor:
    with torch.no_grad():
        return model.eval()(images.clean_batch(0, len(images))[0])


@pytest.mark.parametrize("training", [True, False])
def test_a_model_is_evaluated_without_dropout_or_graph_and_left_as_it_was(
    training: bool, images: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluation, "BATCH", 8)  # the last one of 5
    model = network(0).train(training)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with restored():
        found = evaluate(Accelerator(cpu=True), model, images)
    assert model.training == training and {*model.seen.calls} == {(False, False)} and len(model.seen.calls) == 5
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    expected = logits(model, images)
    assert found["accuracy"] == pytest.approx(100 * (expected.argmax(1) == LABELS).double().mean().item())
    assert found["nll"] == pytest.approx(F.cross_entropy(expected, LABELS).item(), rel=1e-5)


def test_members_of_an_ensemble_predict_without_dropout_or_graph(images: Images, tmp_path: Path) -> None:
    paths = [tmp_path / f"{seed}.safetensors" for seed in (1, 2, 3)]
    for seed, path in zip((1, 2, 3), paths, strict=True):
        save_ticket(path, network(seed).state_dict(), {})
    model = network(4).train()
    model.seen.calls.clear()
    shared = model.seen.calls  # by the members, which are copies
    model.seen.__deepcopy__ = lambda memo: model.seen
    with restored():
        found = evaluate_tickets(Accelerator(cpu=True), model, paths, images)
    mean = torch.stack([logits(network(seed), images).double().softmax(1) for seed in (1, 2, 3)]).mean(0)
    assert found["nll"] == pytest.approx(-mean[range(37), LABELS].log().mean().item(), rel=1e-5)
    assert found["accuracy"] == pytest.approx(100 * (mean.argmax(1) == LABELS).double().mean().item())
    assert {*shared} == {(False, False)}


def test_statistics_are_recomputed_without_a_graph(images: Images) -> None:
    model = network(0)
    model.seen.calls.clear()
    with restored():
        recompute_batch_norm(Accelerator(cpu=True), model, replace(images, flip=True, shift=4).epoch(0, 0), 10)
    assert {*model.seen.calls} == {(True, False)} and len(model.seen.calls) == 3
