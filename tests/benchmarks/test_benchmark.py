"""The benchmark as a user meets it, at a size at which its numbers say nothing."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.commands import run_command
from utils.benchmark import main
from utils.benchmarks import step as steps
from utils.benchmarks.step import Network, against_dense, augmented_batches
from utils.command_line.commands.benchmark import BenchmarkOptions
from utils.command_line.parser import parse

NAMES = ["step", "topology", "superpose", "train"]
TINY = ["--model", "resnet20", "--batch-size", "4", "--repetitions", "2", "--warm-up", "1", "--device", "cpu"]


@pytest.fixture(autouse=True)
def small_and_tidy(monkeypatch):
    """main sets what training sets; leave torch as it was, and do not generate more images than are looked at."""
    monkeypatch.setattr(steps, "IMAGES", 64)
    precision, tuned = torch.get_float32_matmul_precision(), torch.backends.cudnn.benchmark
    yield
    torch.set_float32_matmul_precision(precision)
    torch.backends.cudnn.benchmark = tuned


def masked_network(*arguments: str) -> Network:
    args = parse(BenchmarkOptions, "", [*TINY, *arguments])
    return Network(args, augmented_batches(args), sparse=True)


def test_all_benchmarks_fill_table_and_file(tmp_path, capsys):
    path = tmp_path / "speed.json"
    run_command(main, *NAMES, *TINY, "--json", path)
    written = json.loads(path.read_text())
    assert set(written) == {*NAMES, "device", "threads", "versions", "settings"}
    for name in NAMES:
        result = written[name]
        assert result["n"] == 2
        assert 0 < result["low"] <= result["ratio"] <= result["high"] < math.inf
        assert result["ms"] > 0 and result["against_ms"] > 0
    train = written["train"]
    assert train["images_per_second"] == pytest.approx(4000 / train["ms"])
    assert train["against_images_per_second"] == pytest.approx(4000 / train["against_ms"])
    assert (written["device"], written["threads"]) == ("cpu", torch.get_num_threads())
    assert written["versions"]["torch"] in torch.__version__
    assert written["settings"]["model"] == "resnet20"
    assert written["settings"]["names"] == NAMES

    screen = capsys.readouterr()
    assert [line.split()[0] for line in screen.out.splitlines()[3:] if line[:1].strip()] == NAMES
    assert "images per second" in screen.out and screen.err == ""  # no progress bar away from a terminal


def test_ratios_are_taken_pair_by_pair_after_the_warm_up(monkeypatch):
    """A machine that is slow in some repetitions, the same for both sides, does not change the ratio."""
    slowness = iter([100.0, 1.0, 10.0, 3.0])
    work = iter([7.0, 0.5, 5.0, 1.5])  # in the warm-up another ratio
    monkeypatch.setattr(Network, "steps", lambda network: next(slowness))
    args = parse(BenchmarkOptions, "", [*TINY, "--repetitions", "3"])
    result = against_dense(args, lambda network: next(work))
    assert result == {"ratio": 0.5, "low": 0.5, "high": 0.5, "n": 3, "ms": 1.5, "against_ms": 3.0}


def test_quartiles(monkeypatch):
    monkeypatch.setattr(Network, "steps", lambda network: 2.0)
    work = iter([9.0, 2.0, 10.0, 4.0, 8.0, 6.0])
    options = parse(BenchmarkOptions, "", [*TINY, "--repetitions", "5"])
    result = against_dense(options, lambda network: next(work))
    assert [result[key] for key in ("low", "ratio", "high")] == [2.0, 3.0, 4.0]


def test_timed_steps_train_and_move_nothing():
    network = masked_network()
    masks = {name: mask.clone() for name, mask in network.masking.masks.items()}
    weight = network.model.conv1.weight.detach().clone()
    network.steps()
    assert network.masking.step == 1 and not torch.equal(network.model.conv1.weight, weight)
    assert all(torch.equal(masks[name], mask) for name, mask in network.masking.masks.items())


@pytest.mark.parametrize("method", ["snip", "rigl", "granet", "gmp"])
def test_a_move_meets_dense_gradients_and_trained_weights(method, monkeypatch):
    """What growth reads and drop compares is what a run would show them, not a mass of equal zeros."""
    network = masked_network("--method", method)
    masking, updates = network.masking, []
    update = masking.update_topology

    def look(rate, growth):
        for name, weight in masking.weights.items():
            inactive, active = ~masking.masks[name], masking.masks[name]
            assert (weight.grad[inactive] != 0).float().mean() > 0.5 or not inactive.any()
            assert (weight[active] != 0).float().mean() > 0.9
        updates.append((rate, growth))
        update(rate, growth)

    monkeypatch.setattr(masking, "update_topology", look)
    network.move(), network.move()
    assert updates == [(0.5, "gradient")] * 2 and masking.dropped > 0
    assert all(weight.grad is None for weight in masking.weights.values())


def test_superposed_tickets_differ_in_their_connections():
    network = masked_network()
    network.superpose()
    first = {name: network.superposition.average[name] != 0 for name in network.masking.masks}
    network.superpose()
    second = {name: network.superposition.average[name] != 0 for name in network.masking.masks}
    assert network.superposition.tickets == 2
    for masks in (first, second):  # pruned after every averaging
        assert sum(int(mask.sum()) for mask in masks.values()) == network.masking.nnz
    assert any((first[name] != second[name]).any() for name in first)


def test_training_batches_are_new_and_augmented():
    batches = augmented_batches(parse(BenchmarkOptions, "", TINY))
    (images, labels), (others, _) = next(batches), next(batches)
    assert images.shape == (4, 3, 32, 32) and images.dtype == torch.float32 and labels.shape == (4,)
    assert images.is_contiguous(memory_format=torch.channels_last) and not torch.equal(images, others)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["stride"], "stride"),
        (["--model", "resnet"], "resnet50"),
        (["--batch-size", "0"], "0 is not a positive"),
        (["--repetitions", "-1"], "-1 is not a positive"),
        (["--warm-up", "x"], "invalid int value: 'x'"),
        (["--density", "2"], "density 2"),
        (["--json", "no/such/folder/speed.json"], "cannot be written"),
        (["--json", "."], "cannot be written"),
        (["--mixed-precision", "fp16"], "fp16"),
    ],
)
def test_bad_input_gives_one_line_and_status_2(arguments, named, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        run_command(main, *([*TINY, *arguments] if arguments[0].startswith("-") else [*arguments, *TINY]))
    error = capsys.readouterr().err
    assert stopped.value.code == 2 and error.count("\n") == 1 and named in error


def test_a_gpu_that_is_not_there(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit, match="2"):
        run_command(main, "step", "--device", "cuda")
    assert "use --device cpu" in capsys.readouterr().err


def test_runs_as_a_module():
    command = [sys.executable, "-m", "utils.benchmark", "step", "--batch-size", "0"]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.startswith("python -m utils.benchmark: --batch-size 0")
