"""The authors' released code is timed beside this one: here a stand-in of the same shape, or a checkout of it."""

import json
import math
import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import models
import sparselearning
from tests.commands import refused_by, run_command
from utils.benchmark import AGAINST, main
from utils.benchmarks import released, step
from utils.benchmarks.released import Pair
from utils.command_line.commands.benchmark import BenchmarkOptions
from utils.command_line.parser import parse

CHECKOUT = Path(os.environ.get("SUP_TICKETS_RELEASED", Path(__file__).parents[3] / "shared/Sup-tickets"))
TINY = ("--model", "resnet20", "--batch-size", "4", "--repetitions", "2", "--warm-up", "1")
FILES = {
    "main_suptickets.py": """
import os
import sparselearning
from models import nets
from sparselearning.core import Masking
os.mkdir("logs")
print("loud")
def CAA_average(tickets, numbers, factor):
    first, second = (ticket.state_dict() for ticket in tickets)
    return {name: first[name] * (1 - factor) + second[name] * factor for name in first}, "CAA"
def set_model_params(model, state):
    model.load_state_dict(state)
""",
    "models/nets.py": "",
    "sparselearning/__init__.py": "",
    "sparselearning/core.py": """
import torch
class CosineDecay:
    def __init__(self, rate, steps): self.rate = rate
class Masking:
    def __init__(self, optimizer, prune_rate, prune_rate_decay, growth_mode, redistribution_mode, args, train_loader):
        self.optimizer, self.masks, self.calls, self.steps_between = optimizer, {}, [], args.update_frequency
    def add_module(self, module, sparse_init):
        self.modules = [module]
        self.masks = {name: torch.ones_like(p).cuda() for name, p in module.named_parameters() if p.dim() > 1}
    def step(self):
        self.optimizer.step()
        for name, weight in self.modules[0].named_parameters():
            if name in self.masks: weight.data = weight.data * self.masks[name]
    def truncate_weights(self):
        print("loud")
        for name, weight in self.modules[0].named_parameters():
            if name in self.masks: assert weight.grad.count_nonzero() > self.masks[name].sum() / 2
    def pruning(self, step):
        assert self.prune_every_k_steps == 1
        self.pruned = [p.count_nonzero().item() for p in self.modules[0].parameters()]
""",
    "sparselearning/utils.py": """
import torch
from torchvision import datasets, transforms
def get_cifar10_dataloaders(args, validation_split=0.0, max_threads=10):
    data = datasets.CIFAR10("_dataset", True, transforms.ToTensor(), download=True)
    return torch.utils.data.DataLoader(data, args.batch_size, num_workers=8), None, None
""",
}


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(step, "IMAGES", 64)
    monkeypatch.setattr(released, "IMAGES", 64)
    for name, content in FILES.items():
        path = tmp_path / "theirs/CIFAR" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return tmp_path / "theirs"


def timed(folder: Path, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_command(main, *TINY, "--against", folder, "--json", file)
    results = json.loads(file.read_text())
    for name in AGAINST:
        row = results[name]
        assert row["n"] == 2 and 0 < row["low"] <= row["ratio"] <= row["high"] < math.inf
        assert row["ms"] > 0 and row["against_ms"] > 0
    out = capsys.readouterr().out
    assert [line.split()[0] for line in out.splitlines()[3:]] == [*AGAINST] and "loud" not in out


def test_every_row_is_timed_beside_theirs_and_nothing_of_theirs_stays(checkout, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = [*sys.path]
    timed(checkout, tmp_path / "speed.json", capsys)
    assert sys.modules["models"] is models and sys.modules["sparselearning"] is sparselearning
    assert "main_suptickets" not in sys.modules and sys.path == path
    assert {file.name for file in tmp_path.iterdir()} == {"theirs", "speed.json"}, "their program made no folders here"


@pytest.mark.skipif(not CHECKOUT.is_dir(), reason="no checkout of the released code (SUP_TICKETS_RELEASED)")
def test_the_released_code_itself(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(step, "IMAGES", 64)
    monkeypatch.setattr(released, "IMAGES", 64)
    timed(CHECKOUT, tmp_path / "speed.json", capsys)


def test_theirs_has_the_weights_connections_and_gradients_of_ours(checkout):
    options = parse(BenchmarkOptions, "", [*TINY, "--against", str(checkout)])
    pair = Pair(replace(options, device="cpu"))
    for _ in range(2):
        pair.backward()
        for (name, own), their in zip(pair.own.model.named_parameters(), pair.model.parameters(), strict=True):
            assert torch.equal(own, their) and torch.equal(own.grad, their.grad) and own is not their
            momentum = (side.optimizer.state[weight] for side, weight in ((pair.own, own), (pair.masking, their)))
            assert torch.equal(*(state["momentum_buffer"] for state in momentum))
            assert name not in pair.masking.masks or torch.equal(
                pair.masking.masks[name].bool(), pair.own.masking.masks[name]
            )
        pair.own.optimizer.step()


def test_a_folder_with_something_else_is_one_line(checkout, tmp_path):
    assert "has no CIFAR/main_suptickets.py: give a checkout of" in refused_by(main, "--against", tmp_path)
    (checkout / "CIFAR/sparselearning/core.py").write_text("import nosuchmodule")
    assert "cannot be imported: No module named 'nosuchmodule'; give" in refused_by(main, "--against", checkout)
    assert sys.modules["sparselearning"] is sparselearning


@pytest.mark.parametrize(
    ("words", "says"),
    [("--device cuda", "on a CPU"), ("--compile", "float32"), ("train", "'train' is unknown: choose one of step, top")],
)
def test_what_is_not_timed_beside_theirs_is_refused(words, says, checkout):
    assert says in refused_by(main, "--against", checkout, *words.split())
