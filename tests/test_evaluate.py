"""Saved tickets, one or an ensemble, evaluated by hand and by utils.evaluate; and files that are no tickets."""

import json
from functools import partial
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import save_file
from torch import Tensor, nn

from models import build
from sparselearning.layers import maskable_weights
from tests.commands import refused_by, run_command
from utils.data.cifar import load_cifar
from utils.evaluate import main
from utils.run_folder.tickets import save_ticket
from utils.training.evaluation import recompute_batch_norm
from utils.training.metrics import METRICS

TEST = 12
ABOUT = {"data": "digits", "model": "resnet20"}


def ticket(seed: int, density: float = 0.25) -> dict[str, Tensor]:
    """An untrained network in which every layer keeps the first part of its weights."""
    torch.manual_seed(seed)
    model = build("resnet20", 10)
    for weight in maskable_weights(model).values():
        weight.data.flatten()[round(density * weight.numel()) :] = 0
    model(torch.randn(8, 3, 32, 32))  # batch-norm statistics of some use
    return model.state_dict()


@pytest.fixture(scope="module")
def tickets(tmp_path_factory) -> list[Path]:
    folder = tmp_path_factory.mktemp("tickets")
    paths = [folder / f"ticket-{seed}.safetensors" for seed in (1, 2)]
    for seed, path in enumerate(paths):
        save_ticket(path, ticket(seed), ABOUT)
    return paths


@pytest.fixture(scope="module")
def softmax_outputs() -> Tensor:
    """Of the two tickets by hand, float64 (2, TEST, 10)."""
    images, _ = load_cifar("digits", None, "cpu", limit_test=TEST).test.clean_batch(0, TEST)
    outputs = []
    for seed in (0, 1):
        model = build("resnet20", 10).eval()
        model.load_state_dict(ticket(seed))
        with torch.no_grad():
            outputs.append(model(images).double().softmax(1))
    return torch.stack(outputs)


@pytest.fixture
def evaluate(tmp_path, capsys):
    """Call it with a command line: returns the content of --json and the lines of the table."""

    def call(*argv: object) -> tuple[dict[str, object], list[str]]:
        path = tmp_path / "numbers.json"
        run_command(main, *argv, "--limit-test", TEST, "--json", path)
        return json.loads(path.read_text()), capsys.readouterr().out.splitlines()

    return call


@pytest.fixture
def refused():
    """Call it with a command line that is wrong: returns the one line on stderr."""
    return partial(refused_by, main, "--limit-test", TEST)


def check(found: dict[str, float], probabilities: Tensor) -> None:
    labels = load_cifar("digits", None, "cpu", limit_test=TEST).test.labels
    assert found["accuracy"] == pytest.approx(100 * (probabilities.argmax(1) == labels).double().mean().item())
    nll = -probabilities[torch.arange(TEST), labels].log().mean().item()
    assert found["nll"] == pytest.approx(nll, rel=1e-3)  # a GPU multiplies in TF32


def test_one_ticket_needs_nothing_but_its_file(tickets, softmax_outputs, evaluate):
    summary, lines = evaluate("--tickets", tickets[0])
    assert (summary["data"], summary["images"], "ensemble" in summary) == ("digits", TEST, False)
    (found,) = summary["tickets"]
    check(found, softmax_outputs[0])
    weights = maskable_weights(build("resnet20", 10)).values()
    assert found["maskable"] == sum(weight.numel() for weight in weights)
    assert found["nnz"] == sum(round(0.25 * weight.numel()) for weight in weights)
    assert found["density"] == found["nnz"] / found["maskable"] and found["model"] == "resnet20"
    assert len(lines) == 2 and f"{found['nnz']:,}" in lines[1] and str(tickets[0]) in lines[1]


def test_an_ensemble_is_the_mean_of_softmax_outputs(tickets, softmax_outputs, evaluate):
    summary, lines = evaluate("--tickets", *tickets)
    for found, probabilities in zip(summary["tickets"], softmax_outputs, strict=True):
        check(found, probabilities)
    check(summary["ensemble"], softmax_outputs.mean(0))
    first, second = softmax_outputs
    differ = (first.argmax(1) != second.argmax(1)).double().mean().item()
    kl = ((first - second) * (first / second).log()).sum(1).mean().item() / 2  # of both orders
    assert summary["ensemble"]["disagreement"] == differ > 0
    assert summary["ensemble"]["kl"] == pytest.approx(kl, rel=1e-2)
    assert lines[0].split()[-4:] == ["disagreement", "↑", "KL", "↑"] and lines[-1].split()[-2] == f"{differ:.3f}"
    assert [line.split()[0] for line in lines[1:]] == [*map(str, tickets), "ensemble"]


def test_a_ticket_twice_is_an_ensemble_of_itself(tickets, evaluate):
    summary, _ = evaluate("--tickets", tickets[0], tickets[0])
    own = {key: summary["tickets"][0][key] for key in METRICS}
    assert summary["ensemble"] == pytest.approx({**own, "disagreement": 0, "kl": 0})


def test_a_narrow_ticket_is_evaluated_in_its_width(tmp_path, evaluate):
    path, model = tmp_path / "narrow.safetensors", build("resnet20", 10, 0.5)
    save_ticket(path, model.state_dict(), {**ABOUT, "width": 0.5})
    weights = maskable_weights(model).values()
    assert evaluate("--tickets", path)[0]["tickets"][0]["maskable"] == sum(weight.numel() for weight in weights)


def test_layers_that_a_run_exempts_do_not_count(tmp_path, evaluate):
    path = tmp_path / "exempt.safetensors"
    save_ticket(path, ticket(0), {**ABOUT, "exempt": "conv1.* classifier.*"})
    weights = maskable_weights(build("resnet20", 10), ["conv1.*", "classifier.*"]).values()
    assert evaluate("--tickets", path)[0]["tickets"][0]["maskable"] == sum(weight.numel() for weight in weights)


def test_what_the_header_leaves_out_must_be_said(tmp_path, tickets, evaluate, refused):
    path = tmp_path / "bare.safetensors"
    save_ticket(path, ticket(0), {"ticket": 1})
    assert "add --data" in refused("--tickets", path)
    assert "add --model" in refused("--tickets", path, "--data", "digits")
    summary, _ = evaluate("--tickets", path, "--data", "digits", "--model", "resnet20")
    assert summary["tickets"][0] == {**evaluate("--tickets", tickets[0])[0]["tickets"][0], "file": str(path)}


def test_tickets_of_two_data_sets_are_no_ensemble(tmp_path, tickets, refused):
    path = tmp_path / "other.safetensors"
    save_ticket(path, ticket(0), {**ABOUT, "data": "cifar10"})
    assert "cifar10 and digits" in refused("--tickets", tickets[0], path)


def test_files_that_are_no_tickets(tmp_path, tickets, refused):
    missing, text, cut, foreign = (tmp_path / name for name in ("missing", "text", "cut", "foreign"))
    text.write_text("not a ticket")
    cut.write_bytes(tickets[0].read_bytes()[:-100])
    save_file(ticket(0), foreign, metadata=ABOUT)  # no digest
    for path in (missing, text, cut, foreign, tmp_path):
        assert str(path) in refused("--tickets", path)


def test_a_ticket_of_another_model(tickets, refused):
    assert "belongs to another model" in refused("--tickets", tickets[0], "--model", "vgg16")
    assert "choose one of" in refused("--tickets", tickets[0], "--model", "lenet")
    assert "unknown --data" in refused("--tickets", tickets[0], "--data", "mnist")


def test_tickets_are_required(refused):
    assert "--tickets" in refused()


# ---- batch norm ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [32, 48, 64])
def test_statistics_are_recomputed_whatever_the_batch(batch_size):
    images = load_cifar("digits", None, "cpu", limit_train=32).train
    model = nn.Sequential(nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(3072, 10))
    model[0].running_mean.fill_(7)  # of a ticket before its statistics are recomputed
    order = images.epoch(seed=0, epoch=0)
    recompute_batch_norm(Accelerator(cpu=True), model, order, batch_size)
    pixels = order.batch(0, 32)[0].double()
    assert torch.allclose(model[0].running_mean.double(), pixels.mean((0, 2, 3)), atol=1e-5)
    assert torch.allclose(model[0].running_var.double(), pixels.var((0, 2, 3)), rtol=1e-4)
