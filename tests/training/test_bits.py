"""What the bits of a run depend on beside its options: the device, its kernels, and how the work is divided."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import pytest
import torch
import yaml
from accelerate.utils import DistributedType

import main_cifar
from sparselearning.errors import UsageError
from tests.outcomes import differences, last_state, outcome
from tests.processes import launch
from tests.tiny import SPARSE, SUP_TICKETS, main
from utils.command_line.errors import one_line_errors
from utils.command_line.options import CifarOptions
from utils.command_line.parser import parse
from utils.files.whole import file_digest
from utils.run_folder.checkpoints import load_checkpoint, save_checkpoint
from utils.training.build import make_accelerator

RUN = (*SPARSE, *SUP_TICKETS, "--model", "tiny", "--resume", "auto")

# ---- kernels ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def kernels(monkeypatch: pytest.MonkeyPatch):
    """Which kernels torch may choose is as before, afterwards."""
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    before = torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark
    yield
    torch.use_deterministic_algorithms(False)
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = before


@pytest.mark.parametrize("options", [(), ("--deterministic",)])
def test_deterministic_chooses_the_kernels_of_a_gpu(options, kernels, monkeypatch):
    gpu = SimpleNamespace(
        distributed_type=DistributedType.NO, mixed_precision="no", device=torch.device("cuda"), num_processes=1
    )
    with mock.patch("utils.training.build.Accelerator", return_value=gpu):
        make_accelerator(parse(CifarOptions, "", options))
    on = bool(options)
    assert torch.are_deterministic_algorithms_enabled() == torch.backends.cudnn.deterministic == on
    assert torch.backends.cudnn.benchmark != on
    assert (os.environ.get("CUBLAS_WORKSPACE_CONFIG") == ":4096:8") == on


def test_deterministic_is_refused_on_a_cpu(tmp_path):
    status, _, err = main(tmp_path / "run", *RUN, "--deterministic")
    assert status == 2
    assert "--deterministic does nothing on a CPU" in err and err.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_an_operation_without_such_a_kernel_is_one_clear_line(kernels, capsys):
    torch.use_deterministic_algorithms(True)
    with pytest.raises(SystemExit) as end, one_line_errors():
        torch.zeros(3).put_(torch.tensor([0]), torch.tensor([1.0]))
    err = capsys.readouterr().err
    assert end.value.code == 2
    assert "put_ gives other bits in every run" in err and "leave --deterministic out" in err and err.count("\n") == 1
    with pytest.raises(RuntimeError, match="another"), one_line_errors():
        raise RuntimeError("another")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_the_same_bits_twice(tmp_path):
    words = ("--data", "digits", "--model", "resnet20", "--epochs", "3", "--sparse", "--density", "0.1")
    for name in ("one", "other"):
        command = [sys.executable, "main_cifar.py", *words, "--deterministic", "--output-dir", str(tmp_path / name)]
        subprocess.run(command, cwd=Path(main_cifar.__file__).parent, check=True, capture_output=True)
    assert differences(outcome(tmp_path / "one"), outcome(tmp_path / "other")) == []


# ---- how the work is divided -----------------------------------------------------------------------------------------


def resumed(folder: Path, threads: int, *options: str) -> list[str]:
    """Go on for a step with so many threads; the lines about bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with mock.patch.object(torch, "set_num_threads"):  # the small world has one
            status, out, _ = main(folder, *RUN, *options, stop=last_state(folder)["step"] + 1)
    finally:
        torch.set_num_threads(before)
    assert status == 143
    return [line for line in out.splitlines() if line.startswith("note: ")]


def test_going_on_with_other_threads_is_told(tmp_path):
    assert main(tmp_path, *RUN, stop=5)[0] == 143
    assert resumed(tmp_path, 1) == []
    (note,) = resumed(tmp_path, 2)
    assert "batches in 1 part on 1 × cpu with 1 thread before" in note
    assert "batches in 1 part on 1 × cpu with 2 threads from here" in note
    assert "not those of an uninterrupted run" in note
    assert resumed(tmp_path, 2) == []  # told already
    (note,) = resumed(tmp_path, 2, "--batch-size", "8", "--gradient-accumulation-steps", "2")
    assert "batches in 2 parts on 1 × cpu with 2 threads from here" in note


def test_going_on_in_two_processes_is_told(tmp_path):
    assert main(tmp_path / "run", *RUN, stop=5)[0] == 143
    assert launch(2, go_on, tmp_path) == [0, 0]
    assert "on 1 × cpu with 1 thread before, batches in 2 parts on 2 × cpu" in (tmp_path / "0").read_text()
    assert "before" not in (tmp_path / "1").read_text()


def go_on(folder: Path) -> None:
    _, out, _ = main(folder / "run", *RUN, "--batch-size", "8", stop=6)
    (folder / os.environ["RANK"]).write_text(out)


# ---- checkpoints from before -----------------------------------------------------------------------------------------


def test_a_checkpoint_that_does_not_say_is_gone_on_with(tmp_path):
    """Neither the circumstances nor a switch that was not there yet: to the same bits."""
    assert main(tmp_path / "straight", *RUN)[0] == 0
    assert main(tmp_path / "old", *RUN, stop=14)[0] == 143
    (path,) = (tmp_path / "old/checkpoints").glob("*14")
    state = torch.load(path / "state.pt", weights_only=True)
    del state["circumstances"]
    torch.save(state, path / "state.pt")
    manifest = json.loads((path / "manifest.json").read_text())
    assert manifest["run"].pop("deterministic") is False
    (path / "manifest.json").write_text(json.dumps({**manifest, "sha256": file_digest(path / "state.pt")}))
    status, out, _ = main(tmp_path / "old", *RUN)
    assert status == 0 and f"resumed from {path}" in out and "note: " not in out
    assert differences(outcome(tmp_path / "straight"), outcome(tmp_path / "old")) == []

    file = tmp_path / "old/args.yaml"
    options = yaml.safe_load(file.read_text())
    assert options.pop("deterministic") is False
    file.write_text(yaml.safe_dump(options))
    status, out, _ = main(tmp_path / "old", *RUN)
    assert status == 0 and "nothing to resume" in out


@pytest.mark.parametrize(("before", "now"), [({"deterministic": True}, {"deterministic": False}),
                                             ({"deterministic": False}, {"deterministic": True}),
                                             ({}, {"deterministic": True}), ({}, {"density": 0.1}),
                                             ({"unheard_of": False}, {})])  # fmt: skip
def test_other_kernels_are_another_run(before, now, tmp_path):
    path = tmp_path / "step-00000001"
    save_checkpoint(path, 1, {"step": 1}, before)
    with pytest.raises(UsageError, match=f"is from a run with {next(iter(now | before))}"):
        load_checkpoint(path, now)
    assert load_checkpoint(path, before) == {"step": 1}
