"""The benchmark of sizes counts the bytes of files that are written."""

import json

import pytest
from safetensors.torch import save

from models import build
from tests.commands import run_command
from utils.benchmark import main


def test_sizes_are_those_of_files_and_of_the_entropy_of_positions(tmp_path, capsys):
    words = ("--model", "resnet20", "--density", 0.05, "--repetitions", 2, "--warm-up", 1, "--device", "cpu")
    run_command(main, "size", *words, "--json", tmp_path / "size.json")
    found = json.loads((tmp_path / "size.json").read_text())["size"]
    dense = len(save(build("resnet20", 10).state_dict()))
    assert found["ratio"] == found["low"] == found["high"] == pytest.approx(dense / found["bytes"], rel=0.01)
    weights = sum(tensor.numel() for tensor in build("resnet20", 10).state_dict().values() if tensor.ndim > 1)
    rest = dense - 4 * weights
    assert 0.05 * weights * (32 + 5.7) / 8 < found["bytes"] - rest < 0.05 * weights * (32 + 7) / 8 + 12_000  # headers
    assert found["bf16"] == pytest.approx(found["fp16"], rel=0.01) and found["bf16"] > found["ratio"]
    assert found["ms"] > 0 and found["against_ms"] > 0 and found["n"] == 2
    assert "size" in capsys.readouterr().out.split()
