"""Which checkpoint a run goes on from, and of which run."""

import shutil
from pathlib import Path

import pytest

from tests.outcomes import assert_one_line, contents, differences, outcome
from tests.tiny import SPARSE, SUP_TICKETS, main

RUN = (*SPARSE, *SUP_TICKETS, "--model", "tiny")


@pytest.fixture
def interrupted(tmp_path: Path) -> Path:
    """A run folder with checkpoints of steps 12 and 14."""
    folder = tmp_path / "interrupted"
    assert main(folder, *RUN, stop=14)[0] == 143
    assert sorted(path.name for path in (folder / "checkpoints").iterdir()) == ["step-00000012", "step-00000014"]
    return folder


OTHER = {
    "density": "0.3", "method": "set", "seed": "1", "epochs": "9", "lr": "0.1", "update-frequency": "3",
    "limit-train": "40", "batch-size": "8", "mixed-precision": "bf16", "prune-rate": "0.3", "superpose": "caa",
    "lr-high": "0.01", "cycle-epochs": "1", "weight-decay": "0", "exempt": "0.weight", "valid-fraction": "0.5",
    "model": "norm", "growth": "random",
}  # fmt: skip


@pytest.mark.parametrize("option", OTHER)
def test_other_options_are_refused_by_name(option, interrupted):
    before = contents(interrupted)
    status, _, err = main(interrupted, *RUN, f"--{option}", OTHER[option], "--resume", "auto")
    assert status == 2
    assert_one_line(err, option.replace("-", "_"))
    assert contents(interrupted) == before


def test_another_precision_of_the_launcher_is_refused(interrupted, monkeypatch):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    status, _, err = main(interrupted, *RUN, "--resume", "auto", stop=15)
    assert status == 2
    assert_one_line(err, "mixed_precision")


def test_other_options_are_refused_for_a_finished_run_too(tmp_path):
    assert main(tmp_path, *RUN)[0] == 0
    status, out, _ = main(tmp_path, *RUN, "--resume", "auto")
    assert status == 0
    assert "nothing to resume" in out
    status, _, err = main(tmp_path, *RUN, "--density", "0.3", "--resume", "auto")
    assert status == 2
    assert_one_line(err, "density")


def test_options_that_change_no_result_may_differ(interrupted, straight, tmp_path):
    interrupted.rename(tmp_path / "moved")
    options = (*RUN, "--checkpoint-minutes", "1", "--save-early", "0.5", "--resume", "auto")
    assert main(tmp_path / "moved", *options, stop=15)[0] == 143
    assert main(tmp_path / "moved", *options, "--batch-size", "4", "--gradient-accumulation-steps", "4")[0] == 0


def test_auto_takes_the_newest_complete_one_and_says_which(interrupted):
    newest = interrupted / "checkpoints/step-00000014"
    shutil.copytree(newest, interrupted / "checkpoints/step-00000016.partial")
    _, out, _ = main(interrupted, *RUN, "--resume", "auto", stop=15)
    assert f"resumed from {newest}, at step 14" in out


@pytest.mark.parametrize("damage", ["cut", "flip", "no manifest", "no state", "empty"])
def test_auto_passes_over_a_damaged_one_and_says_so(damage, interrupted, straight):
    newest, older = (interrupted / f"checkpoints/step-000000{step}" for step in (14, 12))
    state = (newest / "state.pt").read_bytes()
    if damage == "cut":
        (newest / "state.pt").write_bytes(state[: len(state) // 2])
    elif damage == "flip":
        (newest / "state.pt").write_bytes(state[:5000] + bytes([state[5000] ^ 1]) + state[5001:])
    elif damage == "no manifest":
        (newest / "manifest.json").unlink()
    elif damage == "no state":
        (newest / "state.pt").unlink()
    else:
        shutil.rmtree(newest)
        newest.mkdir()
    status, _, err = main(interrupted, *RUN, "--resume", str(newest))
    assert status == 2
    assert_one_line(err, str(newest))
    status, out, _ = main(interrupted, *RUN, "--resume", "auto")
    assert status == 0
    assert f"resumed from {older}" in out
    assert any(str(newest) in line for line in out.splitlines())
    assert differences(straight(*RUN), outcome(interrupted)) == []


def test_without_a_checkpoint(tmp_path):
    status, out, _ = main(tmp_path, *RUN, "--resume", "auto", stop=2)
    assert status == 143
    assert "no checkpoint" in out
    for path in (tmp_path / "checkpoints").iterdir():
        (path / "state.pt").write_bytes(b"")
    status, _, err = main(tmp_path, *RUN, "--resume", "auto")
    assert status == 2
    assert_one_line(err, "step-00000002")
    status, _, err = main(tmp_path, *RUN, "--resume", str(tmp_path / "nowhere"))
    assert status == 2
    assert_one_line(err, "nowhere")


def test_a_checkpoint_whose_tickets_are_elsewhere_is_refused_at_the_start(straight, tmp_path):
    options = (*RUN, "--save-tickets")
    assert main(tmp_path / "one", *options, stop=20)[0] == 143
    other = ("--resume", str(tmp_path / "one/checkpoints/step-00000020"))
    status, out, err = main(tmp_path / "other", *options, *other)
    assert (status, out) == (2, "")
    assert_one_line(err, "tickets/ticket-1.safetensors", "in the folder of that run")
    assert not (tmp_path / "other").exists()
    shutil.copytree(tmp_path / "one/tickets", tmp_path / "other/tickets")
    shutil.copy(tmp_path / "one/args.yaml", tmp_path / "other")
    assert main(tmp_path / "other", *options, *other)[0] == 0
    assert differences(straight(*options), outcome(tmp_path / "other")) == []
