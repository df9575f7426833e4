"""Efficient ensembles in runs: each trains, is cut and resumed, and its tickets go to every command."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import utils.evaluate
import utils.evaluations.opening
import utils.superpose
from models.members import MEMBERS
from sparselearning.tickets import read_header
from tests.commands import run_command
from tests.tiny import CLASSES, SPARSE, built, load_images, main, tiny_world
from utils.command_line.options import CifarOptions
from utils.command_line.parser import parse
from utils.reporting.read import find_summaries, read_groups
from utils.training.dealing import dealt
from utils.training.metrics import METRICS

PLAIN = ("--data", "tiny", "--batch-size", "16", "--model", "norm", "--epochs", "2")
SUP = (*SPARSE, "--model", "norm", "--epochs", "4", "--sup-tickets", "--cycle-epochs", "1", "--num-tickets", "2",
       "--save-tickets")  # fmt: skip
KINDS = ("mc-dropout", "batchensemble", "mimo", "treenet")


def of(kind: str, members: int = 2) -> tuple[str, ...]:
    return "--efficient-ensemble", kind, "--members", str(members)


@pytest.mark.parametrize("kind", KINDS)
def test_a_sparse_run_that_is_cut_ends_in_the_same_bits(kind: str, tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert main(whole, *SUP, *of(kind))[0] == 0
    assert main(cut, *SUP, *of(kind), stop=7)[0] == 143
    assert main(cut, *SUP, *of(kind), "--resume", "auto")[0] == 0
    ours, others = (load_file(folder / "ticket.safetensors") for folder in (whole, cut))
    assert ours.keys() == others.keys() and all(torch.equal(ours[name], others[name]) for name in ours)
    said = json.loads((whole / "summary.json").read_text())
    assert said["nnz"] == round(0.2 * said["maskable"])
    for numbers in (said["test"]["superposed"], said["test"]["final"], *said["test"]["tickets"]):
        assert 0 <= numbers["disagreement"] <= 1 and numbers["kl"] >= 0


@pytest.mark.parametrize("kind", KINDS)
def test_its_tickets_are_evaluated_superposed_and_reported(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    assert main(run, *SUP, *of(kind))[0] == 0
    said = json.loads((run / "summary.json").read_text())
    tickets = sorted(run.glob("tickets/*.safetensors"))
    assert read_header(tickets[0])["efficient_ensemble"].startswith(f"{kind} 2")
    with tiny_world():
        for module in (utils.evaluations.opening, utils.superpose):
            monkeypatch.setattr(module, "load_cifar", load_images)
        given = ("--tickets", *tickets, "--data", "cifar10")  # which is the tiny one here
        run_command(utils.evaluate.main, *given, "--json", tmp_path / "evaluated.json")
        output = ("--output", tmp_path / "superposed.safetensors", "--json", tmp_path / "superposed.json")
        run_command(utils.superpose.main, *given, "--evaluate", *output)
    evaluated = json.loads((tmp_path / "evaluated.json").read_text())
    for row, numbers in zip(evaluated["tickets"], said["test"]["tickets"], strict=True):
        assert all(row[name] == pytest.approx(numbers[name], rel=1e-5) for name in METRICS)
    assert evaluated["ensemble"]["accuracy"] == pytest.approx(said["test"]["ensemble"]["accuracy"])
    superposed = json.loads((tmp_path / "superposed.json").read_text())["superposed"]
    assert superposed["accuracy"] == pytest.approx(said["test"]["superposed"]["accuracy"])
    (group,) = read_groups(find_summaries([str(run)]))
    assert group.title.startswith("RigL + Sup-tickets, ") and group.title.endswith(" of 2")
    assert "disagreement" in group.values


def test_a_run_with_one_member_is_the_plain_run_to_the_bit(tmp_path: Path) -> None:
    assert main(tmp_path / "plain", *PLAIN)[0] == 0
    plain = [tensor for tensor in load_file(tmp_path / "plain/ticket.safetensors").values() if tensor.ndim > 1]
    for kind in ("treenet", "mc-dropout"):
        assert main(tmp_path / kind, *PLAIN, *of(kind, 1), *["--dropout", "0"] * (kind == "mc-dropout"))[0] == 0
        own = [tensor for tensor in load_file(tmp_path / kind / "ticket.safetensors").values() if tensor.ndim > 1]
        assert len(own) == len(plain) == 3
        assert all(torch.equal(*pair) for pair in zip(*(sorted(x, key=torch.numel) for x in (own, plain)), strict=True))


@pytest.mark.parametrize(
    ("kind", "step", "inference"),
    [("mc-dropout", 1, 2), ("batchensemble", 2, 2), ("mimo", 4, 1), ("treenet", 1, 1)],
)
def test_training_costs_repetitions_and_inference_passes(
    kind: str, step: float, inference: float, tmp_path: Path
) -> None:
    """In those of one pass through the whole network, which costs more than the plain one where it is wider."""
    assert main(tmp_path / "plain", *PLAIN)[0] == 0
    assert main(tmp_path / kind, *PLAIN, *of(kind))[0] == 0
    plain, flops = (json.loads((tmp_path / name / "summary.json").read_text())["flops"] for name in ("plain", kind))
    wider = flops["test_ratio"] / inference
    assert wider == pytest.approx(1) if kind in ("mc-dropout", "batchensemble") else 1 < wider < 2
    assert flops["train_ratio"] == pytest.approx(step * wider)
    assert plain["dense_epoch"] == pytest.approx(flops["dense_epoch"]) and plain["train_ratio"] == 1


@pytest.mark.parametrize("kind", KINDS)
def test_every_row_of_the_logits_has_the_label_of_its_image(kind: str) -> None:
    options = parse(CifarOptions, "", [*of(kind, 3)])
    assert options.of_members is not None and options.batch_repetitions is not None

    def make() -> torch.nn.Module:
        return torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), torch.nn.Flatten(), torch.nn.Linear(4, 5))

    model = MEMBERS[kind](make, options.of_members)
    deal = dealt(model, torch.arange(6.0).view(6, 1, 1, 1).expand(6, 3, 1, 1), options.batch_repetitions)
    logits, numbers = model(deal.inputs), deal.rows(torch.arange(6))
    seen = deal.inputs[:, :, 0, 0, 0].expand(len(logits), -1)
    assert logits.shape[:2] == seen.shape and torch.equal(seen.flatten(), numbers.float())


def test_fast_weights_learn_at_a_rate_of_their_own_without_decay() -> None:
    with tiny_world():
        run = built(*PLAIN, *of("batchensemble"), "--fast-lr", "0.25", "--norm-weight-decay", "0")
    plain, norms, fast = run.optimizer.param_groups
    assert (fast["weight_decay"], fast["lr_part"], norms["weight_decay"]) == (0.0, 0.25, 0.0)
    shapes = [tuple(p.shape) for p in fast["params"]]
    assert shapes == [(2, 3), (2, 8), (2, 8), (2, 16), (2, 16), (2, CLASSES)]
    together = [id(p) for group in (plain, norms, fast) for p in group["params"]]
    assert sorted(together) == sorted(map(id, run.model.parameters()))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("--members 3", "--members does nothing without --efficient-ensemble: add --efficient-ensemble"),
        ("--efficient-ensemble mimo --shared 0.5", "without --efficient-ensemble treenet"),
        ("--efficient-ensemble treenet --dropout 0.5", "without --efficient-ensemble mc-dropout"),
        ("--efficient-ensemble treenet --input-repetition 0.5", "without --efficient-ensemble mimo"),
        ("--efficient-ensemble mimo --fast-lr 0.5", "without --efficient-ensemble batchensemble"),
        ("--efficient-ensemble mimo --members 0", "--members 0 is not a positive number"),
        ("--efficient-ensemble mimo --input-repetition 1.5", "--input-repetition 1.5 is not in [0, 1]"),
        ("--efficient-ensemble treenet --shared 1", "--shared 1.0 is not in [0, 1)"),
        ("--efficient-ensemble mc-dropout --dropout 1", "--dropout 1.0 is not in [0, 1)"),
    ],
)
def test_an_option_of_another_ensemble_or_beyond_its_range_is_refused(
    words: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        parse(CifarOptions, "", words.split())
    assert stop.value.code == 2 and says in capsys.readouterr().err


@pytest.mark.parametrize(
    ("kind", "members", "repetitions"),
    [("mc-dropout", 10, 1), ("batchensemble", 4, 4), ("mimo", 3, 4), ("treenet", 3, 1)],
)
def test_defaults_are_those_of_their_papers(kind: str, members: int, repetitions: int) -> None:
    options = parse(CifarOptions, "", ["--efficient-ensemble", kind])
    assert (options.members, options.batch_repetitions) == (members, repetitions)
