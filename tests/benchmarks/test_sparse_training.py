"""The benchmark of sparse training times both kinds of dense training beside it."""

import json
import math

import pytest

from tests.commands import run_command
from utils.benchmark import main

pytest.importorskip("numba")


def test_times_and_flops_of_each_density(tmp_path, capsys):
    words = ("--model", "resnet20", "--densities", 0.05, 0.2, "--batch-size", 2, "--repetitions", 2, "--warm-up", 1)
    files = ("--json", tmp_path / "speed.json", "--plot", tmp_path / "speed.png")
    run_command(main, "sparse_training", *words, *files)
    found = json.loads((tmp_path / "speed.json").read_text())["sparse_training"]
    assert [*found["densities"]] == ["0.05", "0.2"]
    for row in found["densities"].values():
        assert 0 < row["low"] <= row["ratio"] <= row["high"] < math.inf and row["n"] == 2
        assert row["fp32"] == pytest.approx(row["against_ms"] / row["ms"], rel=0.5)
        assert row["bf16"] == pytest.approx(row["bf16_ms"] / row["ms"], rel=0.5)
    flops = [row["flops"] for row in found["densities"].values()]
    assert 0.05 < flops[0] < flops[1] < 0.5  # ERK keeps more where a layer is small and its images are large
    assert (tmp_path / "speed.png").read_bytes().startswith(b"\x89PNG")
    assert "density 0.2: " in capsys.readouterr().out
