"""The benchmark of memory: its sums by hand, and one of its runs."""

import csv
import json
import subprocess
import sys

import pytest

from sparselearning import UsageError
from tests.commands import run_command
from utils.benchmark import main
from utils.benchmarks import memory
from utils.command_line.commands.benchmark import BenchmarkOptions
from utils.command_line.parser import parse

TINY = ("memory", "--model", "resnet20", "--batch-size", "2", "--device", "cpu", "--density", "0.05")


def test_ratios_are_those_of_each_turn_and_copies_those_of_the_weights(monkeypatch, tmp_path, capsys):
    weights = 4 * 272_474  # bytes of ResNet-20's parameters
    turns = iter([100e6, 110e6, 110e6 + weights, 200e6, 202e6, 202e6 + 3 * weights, 50e6, 60e6, 60e6 + 2 * weights])
    monkeypatch.setattr(memory, "run", lambda *_: next(turns))
    monkeypatch.setattr(memory, "has_numba", lambda: False)
    run_command(main, *TINY, "--repetitions", 3, "--json", tmp_path / "memory.json")
    found = json.loads((tmp_path / "memory.json").read_text())["memory"]
    assert [*found] == ["dense", "masked", "masked cycles"]
    assert found["dense"] == {"mb": 100, "low": 75, "high": 150, "n": 3, "ratio": 1}
    assert found["masked"] == {"mb": 110, "low": 85, "high": 156, "n": 3, "ratio": pytest.approx(1.1)}
    assert found["masked cycles"]["copies"] == pytest.approx(2)
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2].split()[:3] == ["masked", "1.100", "110"] and "+2.00 copies of the weights" in lines[-1]


def test_a_run_moves_connections_and_takes_three_tickets(tmp_path):
    peak = memory.run(parse(BenchmarkOptions, "", TINY), memory.WAYS["masked cycles"], str(tmp_path))
    assert 100e6 < peak < 10e9
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert len(summary["test"]["tickets"]) == 3
    grown = [int(row["grown"]) for row in csv.DictReader((tmp_path / "metrics.csv").open())]
    assert 0 < grown[1] < grown[2] < grown[3] < grown[4]  # by an update, then by an exploration in each cycle


def test_a_run_that_fails_says_why(tmp_path):
    options = parse(BenchmarkOptions, "", TINY)
    with pytest.raises(UsageError, match=r"a run to measure failed: .*--sparse-kernels does nothing without --sparse"):
        memory.run(options, ("--sparse-kernels",), str(tmp_path))


def test_the_peak_is_what_was_there_at_once():
    code = """
import torch
from utils.benchmarks.memory import peak
before = peak()
for _ in range(3):
    torch.ones(25_000_000)
print(peak() - before)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=memory.ROOT, capture_output=True, text=True, check=True)
    assert 95e6 < int(done.stdout) < 190e6
