"""The benchmark of inference times every dense way beside the sparse one."""

import json
import math

import pytest

from tests.commands import run_command
from utils.benchmark import main

pytest.importorskip("numba")


@pytest.mark.parametrize("data", [("cifar",), ("imagenet", "--image-size", 32)])
def test_ratios_to_each_dense_way(data, tmp_path, capsys):
    model = "resnet20" if data == ("cifar",) else "resnet50"
    words = ("--model", model, "--density", 0.01, "--batch-size", 2, "--repetitions", 2, "--warm-up", 1)
    run_command(main, "inference", *words, "--device", "cpu", "--data", *data, "--json", tmp_path / "speed.json")
    found = json.loads((tmp_path / "speed.json").read_text())["inference"]
    assert 0 < found["low"] <= found["ratio"] <= found["high"] < math.inf and found["n"] == 2
    assert found["ratio"] == pytest.approx(min(found["contiguous"], found["channels_last"]), rel=0.5)
    assert found["images_per_second"] == pytest.approx(2000 / found["ms"])
    assert "times as fast as contiguous" in capsys.readouterr().out
