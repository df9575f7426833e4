"""Runs from the command line to the run folder, on a few digits."""

import csv
import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

import main_cifar
from models import build
from sparselearning.layers import maskable_weights
from tests.scripts import end_of
from tests.tiny import no_pictures, restored
from utils.command_line.paths import EVENTS, SINGLE_TICKETS
from utils.data.cifar import load_cifar
from utils.training.metrics import METRICS, per_sample, summarize
from utils.training.saved import predict

TEST, DENSITY, WIDTH = 20, 0.1, 0.25
DATA = f"--data digits --model resnet20 --width {WIDTH} --limit-train 16 --limit-test {TEST} --batch-size 8"
SPARSE = f"{DATA} --epochs 5 --sparse --density {DENSITY}"  # 2 steps per epoch
TICKETS = "--sup-tickets --cycle-epochs 1 --num-tickets 2 --save-tickets"
RUNS = {  # every method, every average and both ways to get batch-norm statistics
    "dense": f"{DATA} --epochs 2",
    "static": f"{SPARSE} {TICKETS} --method static --bn recompute",
    "snip": f"{SPARSE} {TICKETS} --method snip",
    "set": f"{SPARSE} {TICKETS} --method set --superpose caa",
    "rigl": f"{SPARSE} {TICKETS} --method rigl --superpose cima --cima-beta 0.7",
    "granet": f"{SPARSE} {TICKETS} --method granet --seed 3",
    "gmp": f"{SPARSE} {TICKETS} --method gmp --bn recompute",
    "plain": f"{SPARSE} --method rigl --valid-fraction 0.25",
    "normal too": f"{SPARSE} --sup-tickets --cycle-epochs 1 --num-tickets 1 --include-normal --save-tickets",
}
SUP = [name for name in RUNS if name not in ("dense", "plain")]
DRAWN = ("dense", "granet")  # those that draw their pictures, which takes longer than to train


@pytest.fixture(scope="module", autouse=True)
def as_it_was():
    with restored():
        yield


class Finished:
    """What a run has left in its folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.args = yaml.safe_load((folder / "args.yaml").read_text())
        self.summary = json.loads((folder / "summary.json").read_text())
        self.ticket = load_file(folder / "ticket.safetensors")
        self.tickets = [load_file(path) for path in sorted(folder.glob("tickets/ticket-*"))]
        self.masked = list(maskable_weights(build("resnet20", 10, WIDTH)))

    def metrics(self, ticket: dict[str, Tensor]) -> dict[str, float]:
        model = build("resnet20", 10, WIDTH)
        model.load_state_dict(ticket)
        test = load_cifar("digits", None, "cpu", limit_test=TEST).test
        return summarize(per_sample(predict(model, test), test.labels))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Call it with a name of RUNS: returns the finished run, trained once."""
    done: dict[str, Finished] = {}

    def run(name: str) -> Finished:
        if name not in done:
            folder = tmp_path_factory.mktemp("runs") / name
            with nullcontext() if name in DRAWN else no_pictures():
                assert end_of(main_cifar, *RUNS[name].split(), "--output-dir", str(folder))[0] == 0
            done[name] = Finished(folder)
        return done[name]

    return run


# ---- the run folder ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", RUNS)
def test_the_run_folder(name, finished):
    run = finished(name)
    names = {path.name for path in run.folder.iterdir() if not path.match(EVENTS)}
    files = {"args.yaml", "env.json", "metrics.csv", "summary.json", "ticket.safetensors"}
    files |= {"tickets", SINGLE_TICKETS} if name in SUP else set()
    files |= {"learning_curve.png"} if name in DRAWN else set()
    files |= {"sparsity_per_layer.png"} if name in DRAWN and name != "dense" else set()
    assert names == files | {"checkpoints"}  # and nothing half written
    assert list(run.folder.glob(EVENTS)) and list(run.folder.glob("checkpoints/step-*/manifest.json"))
    assert {"torch", "device", "threads", "commit"} <= set(json.loads((run.folder / "env.json").read_text()))
    rows = list(csv.DictReader((run.folder / "metrics.csv").open()))
    assert [int(row["epoch"]) for row in rows] == list(range(1, run.args["epochs"] + 1))
    phases = ["normal"] * (run.args["epochs"] - len(run.tickets)) + [f"cycle {i + 1}" for i in range(len(run.tickets))]
    assert [row["phase"] for row in rows] == phases
    assert all(bool(row["valid_accuracy"]) == (name == "plain") for row in rows)
    for path in run.folder.glob("*.png"):
        assert Image.open(path).width > 500


def same_types(value: Any, like: Any) -> bool:
    if isinstance(like, dict):
        return isinstance(value, dict) and all(same_types(value.get(key), item) for key, item in like.items())
    return type(value) is type(like)


@pytest.mark.parametrize("name", RUNS)
def test_the_summary_holds_numbers(name, finished):
    run, number = finished(name), dict.fromkeys(METRICS, 0.0)
    summary, test = run.summary, run.summary["test"]
    sup = {"normal": number, "superposed": number} if name in SUP else {}
    like = {
        "data": "", "model": "", "method": "", "sup_tickets": True, "seed": 0, "epochs": 0, "density": 0.0,
        "maskable": 0, "nnz": 0, "nnz_per_layer": dict.fromkeys(run.masked, 0), "test": {"final": number, **sup},
        "flops": {"train_ratio": 0.0, "test_ratio": 0.0}, "images_per_second": 0.0, "train_seconds": 0.0,
    }  # fmt: skip
    assert same_types(summary, like)
    assert all(same_types(ticket, number) for ticket in test["tickets"])
    ensemble = {"ensemble"} if run.args.get("save_tickets") and len(run.tickets) > 1 else set()
    assert set(test) == {"final", "tickets", *sup, *ensemble} and len(test["tickets"]) == len(run.tickets)
    assert summary["method"] == (run.args["method"] if run.args.get("sparse") else "dense")
    assert summary["sup_tickets"] == (name in SUP) and summary["seed"] == run.args["seed"]
    flops = summary["flops"]
    ratios = [flops[name] for name in ("train_ratio", "test_ratio", "train_ratio_rigl", "test_ratio_rigl")]
    assert set(ratios) == {1} if name == "dense" else all(0 < ratio < 1 for ratio in ratios)


@pytest.mark.parametrize("name", RUNS)
def test_the_weights_counted(name, finished):
    """In the summary, in the ticket and in every saved one: exactly the density."""
    run = finished(name)
    total = sum(run.ticket[weight].numel() for weight in run.masked)
    count = round(run.summary["density"] * total)
    assert (run.summary["maskable"], run.summary["nnz"]) == (total, count)
    assert run.summary["nnz_per_layer"] == {weight: int(run.ticket[weight].count_nonzero()) for weight in run.masked}
    for ticket in (run.ticket, *run.tickets):
        assert sum(int(ticket[weight].count_nonzero()) for weight in run.masked) == count


@pytest.mark.parametrize("name", RUNS)
def test_the_ticket_gives_the_metrics_of_the_summary(name, finished):
    run = finished(name)
    test = run.summary["test"]
    use = test["superposed"] if name in SUP else test["final"]
    assert run.metrics(run.ticket) == pytest.approx(use, rel=1e-3, abs=1e-3)
    for ticket, metrics in zip(run.tickets, test["tickets"], strict=True):
        assert run.metrics(ticket) == pytest.approx(metrics, rel=1e-3, abs=1e-3)
    if name in SUP:
        assert test["final"] == test["tickets"][-1]


# ---- the superposition, by hand ------------------------------------------------------------------------------------


def average(tickets: list[dict[str, Tensor]], name: str, superpose: str, beta: float) -> Tensor:
    stack = torch.stack([ticket[name].double() for ticket in tickets])
    if superpose == "caa" and name in maskable_weights(build("resnet20", 10, WIDTH)):
        return stack.sum(0) / (stack != 0).sum(0).clamp(min=1)
    if superpose == "cima":
        first, second = stack
        return beta * first + (1 - beta) * second
    return stack.mean(0)


@pytest.mark.parametrize("name", SUP)
def test_the_superposed_ticket_is_the_pruned_average_of_the_tickets(name, finished):
    run = finished(name)
    tickets = run.tickets
    if name == "normal too":
        tickets = [load_file(run.folder / "tickets/normal.safetensors"), *tickets]
    assert len(tickets) == 2 and any((tickets[0][w] != 0).ne(tickets[1][w] != 0).any() for w in run.masked)
    how = run.args.get("superpose"), run.args.get("cima_beta", 0.8)
    averages = {key: average(tickets, key, *how) for key in run.ticket}
    magnitudes = torch.cat([averages[weight].abs().flatten() for weight in run.masked])
    threshold = magnitudes.topk(run.summary["nnz"]).values[-1]
    for key, found in run.ticket.items():
        expected = averages[key]
        if key in run.masked:
            expected = torch.where(expected.abs() >= threshold, expected, 0)
        same = torch.allclose(found.double(), expected, rtol=1e-4, atol=1e-7)
        if run.args.get("bn") == "recompute" and "running" in key:
            assert not same and found.isfinite().all(), key
        elif "batches" not in key:  # a counter
            assert same, key


def test_seeds_and_methods_make_different_networks(finished):
    first = [finished(name).ticket["classifier.weight"] for name in ("static", "snip", "set", "rigl", "granet", "gmp")]
    assert all(not torch.equal(a, b) for i, a in enumerate(first) for b in first[:i])
