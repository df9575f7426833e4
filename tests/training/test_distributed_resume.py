"""Runs of several processes that are cut and go on, in as many processes or others."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.outcomes import differences, last_state, outcome
from tests.processes import launch
from tests.tiny import METHODS, NETWORKS, SPARSE, SUP_TICKETS, main
from tests.training.distributed import PARTS, RUN, Case, evaluated, own_rank, run_all, statuses

CUTS = (5, 10, 12)  # mid-epoch, mid-cycle, between two cycles


@pytest.fixture(scope="module")
def resumed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of 2 processes named METHOD-straight and METHOD-cut; either process may be the one that gets the signal."""
    folder = tmp_path_factory.mktemp("resumed")
    straight = [Case(folder / f"{method}-straight", (*RUN, *options)) for method, options in METHODS.items()]
    assert launch(2, run_all, straight) == [0, 0]
    for i, stop in enumerate((*CUTS, None)):
        cases = [Case(folder / f"{method}-cut", (*RUN, *options), stop, i % 2) for method, options in METHODS.items()]
        assert launch(2, run_all, cases) == [0, 0]
        for case in cases:
            assert statuses(case.folder, 2) == ([143, 143] if stop else [0, 0])
            assert not stop or last_state(case.folder)["step"] == stop
    return folder


@pytest.mark.parametrize("method", METHODS)
def test_two_processes_resume_to_the_same_bits(method, resumed):
    assert differences(outcome(resumed / f"{method}-straight"), outcome(resumed / f"{method}-cut")) == []


@pytest.mark.parametrize("method", METHODS)
def test_processes_agree_on_what_is_reported(method, resumed):
    """Accuracy, NLL and ECE belong to the saved ticket, to the last digit: one process that reads it agrees."""
    folder = resumed / f"{method}-straight"
    summary = json.loads((folder / "summary.json").read_text())
    model = NETWORKS["tiny"](10)
    model.load_state_dict(load_file(folder / "ticket.safetensors"))
    assert summary["test"]["superposed"] == evaluated(model)


def test_a_checkpoint_moves_between_one_process_and_two(tmp_path):
    options = (*SPARSE, *PARTS, "--model", "exact", "--method", "rigl", "--resume", "auto")
    for stop, world in ((5, 2), (6, 1), (10, 2), (12, 1), (None, 2)):
        size = ("--batch-size", str(16 // world))
        assert launch(world, run_all, [Case(tmp_path / "moved", (*options, *size), stop)]) == [0] * world
        assert statuses(tmp_path / "moved", world) == [143 if stop else 0] * world
    run_all([Case(tmp_path / "stayed", options)])
    moved, stayed = last_state(tmp_path / "moved"), last_state(tmp_path / "stayed")
    assert differences(moved["masking"], stayed["masking"]) == []
    for name, weight in stayed["model"].items():
        torch.testing.assert_close(moved["model"][name], weight, rtol=1e-9, atol=1e-12)
    for row, other in zip(moved["history"], stayed["history"], strict=True):
        for key in row.keys() - {"images_per_second", "phase"}:
            assert row[key] == (None if other[key] is None else pytest.approx(other[key], rel=1e-6))


def test_it_does_not_move_where_epochs_would_have_other_steps(tmp_path):
    """A last batch of 10 images is enough for a part, and too small for eight."""
    options = (*SPARSE, *SUP_TICKETS, "--limit-train", "42", "--model", "plain", "--resume", "auto")
    assert main(tmp_path / "run", *options, stop=5)[0] == 143
    parts = ("--batch-size", "2", "--gradient-accumulation-steps", "4")
    launch(2, run_all, [Case(tmp_path / "run", (*options, *parts))])
    status, _, err = json.loads((tmp_path / "run.0.json").read_text())
    assert status == 2
    assert err.count("\n") == 1
    assert "steps_per_epoch" in err


def test_processes_that_resume_from_different_steps_are_stopped(tmp_path):
    """As where the nodes do not share the file system with the run folder."""
    assert main(tmp_path / "0", *RUN, "--batch-size", "16", "--method", "rigl", stop=5)[0] == 143
    assert launch(2, resume_alone, tmp_path, timeout=20) == [0, 0]
    for rank in range(2):
        status, _, err = json.loads((tmp_path / f"{rank}.{rank}.json").read_text())
        assert status == 2
        assert err.count("\n") == 1 - rank, "the main process speaks for all"
        assert rank or "every process must see" in err


def resume_alone(folder: Path) -> None:
    run_all([Case(folder / str(own_rank()), (*RUN, "--method", "rigl"))])
