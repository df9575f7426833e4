"""A run that is cut anywhere, in any way, and goes on ends with the very bits of a run that was never cut."""

import os
import random
import signal
import time
from pathlib import Path
from unittest import mock

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.outcomes import differences, last_state, outcome
from tests.processes import finish, start
from tests.tiny import METHODS, SPARSE, SUP_TICKETS, main
from utils.command_line.paths import SINGLE_TICKETS

STEPS = 24
TIMES = ("train/images_per_second", "train/share_of_time_without_data")
RUN = (*SPARSE, *SUP_TICKETS, "--model", "tiny")
VARIANTS = {
    "momentum": ("--method", "rigl", "--growth", "momentum", "--superpose", "caa", "--save-tickets"),
    "accumulation": ("--method", "set", "--batch-size", "4", "--gradient-accumulation-steps", "4", "--bn", "recompute"),
    "clipping": ("--method", "rigl", "--clip-grad-norm", "0.5", "--valid-fraction", "0.3", "--include-normal"),
    "bf16": ("--method", "rigl", "--mixed-precision", "bf16"),
}


def cut(folder: Path, options: tuple[str, ...], every: int) -> None:
    """Stop after every so many steps, to the end; everything but the folder is built anew each time."""
    for step in range(every, STEPS + 1, every):
        status, out, err = main(folder, *options, "--resume", "auto", stop=step)
        assert (status, err) == (143, "")
        assert f"step-{step:08d}" in out.splitlines()[-1]
    assert main(folder, *options, "--resume", "auto")[0] == 0


@pytest.mark.parametrize("options", METHODS.values(), ids=METHODS)
def test_a_run_cut_after_each_of_its_steps(options, straight, tmp_path):
    cut(tmp_path, (*RUN, *options), every=1)
    assert differences(straight(*RUN, *options), outcome(tmp_path)) == []


@pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS)
def test_other_state_survives_too(options, straight, tmp_path):
    cut(tmp_path, (*RUN, *options), every=5)
    assert differences(straight(*RUN, *options), outcome(tmp_path)) == []


def test_a_dense_run_without_tickets(straight, tmp_path):
    options = ("--data", "tiny", "--model", "tiny", "--batch-size", "16", "--epochs", "8")
    cut(tmp_path, options, every=5)
    assert differences(straight(*options), outcome(tmp_path)) == []


@pytest.mark.parametrize("number, status", [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)])
def test_signals_and_new_processes(number, status, straight, tmp_path):
    """Mid-epoch in the normal phase, mid-cycle, at the border of two cycles."""
    options = (*RUN, "--method", "rigl")
    for step in (5, 16, 18):
        process = start(main, tmp_path, *options, "--resume", "auto", stop=step, number=number)
        assert finish([process]) == [status]
        assert last_state(tmp_path)["step"] == step
    assert finish([start(main, tmp_path, *options, "--resume", "auto")]) == [0]
    assert differences(straight(*options), outcome(tmp_path)) == []


def test_a_signal_before_training_ends_the_program_at_once(tmp_path):
    """There is nothing to save, and set-up may take long."""
    assert finish([start(stopped_in_set_up, tmp_path, *RUN)]) == [-signal.SIGTERM]
    assert not (tmp_path / "checkpoints").exists()


def stopped_in_set_up(folder: Path, *options: str) -> tuple[int, str, str]:
    with mock.patch("main_cifar.begin", side_effect=lambda *_: os.kill(os.getpid(), signal.SIGTERM)):
        return main(folder, *options)


def test_kills_at_random_moments(straight, tmp_path):
    """A checkpoint after every step, so that a kill is as likely as not to come while one is written."""
    options = (*RUN, "--method", "granet", "--prune-end", "0.3", "--checkpoint-minutes", "1e-9")
    expected, rng, kills = straight(*options), random.Random(0), 0
    folder, runs, killed = tmp_path / "0", 0, 0
    seconds = 0.5
    while kills < 12 or killed == 0:
        began = time.monotonic()
        process = start(main, folder, *options, "--resume", "auto")
        process.join(rng.uniform(0.1, 1) * seconds)
        if process.is_alive():
            process.kill()
            process.join()
            kills, killed = kills + 1, killed + 1
        if process.exitcode == 0:
            seconds = time.monotonic() - began if not killed else seconds
            assert differences(expected, outcome(folder)) == []
            runs, killed, folder = runs + 1, 0, tmp_path / str(runs + 1)
        else:
            assert process.exitcode == -signal.SIGKILL
    assert main(folder, *options, "--resume", "auto")[0] == 0
    assert differences(expected, outcome(folder)) == []


def test_the_curves_have_no_gap_and_nothing_twice(tmp_path):
    """Also where the cut comes at the end of an epoch, whose row is already there."""
    main(tmp_path / "cut", *RUN, stop=6)
    for step in (12, 13, 20):
        main(tmp_path / "cut", *RUN, "--resume", "auto", stop=step)
    main(tmp_path / "cut", *RUN, "--resume", "auto")
    main(tmp_path / "straight", *RUN)
    straight = curves(tmp_path / "straight")
    assert curves(tmp_path / "cut") == straight and {f"{SINGLE_TICKETS}: test/nll", ": test/nll"} <= {*straight}
    assert len(straight[": updates/connections_grown"]) == 7  # every second step of 12 but the last, and two cycles


def curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Of the run, and of its single tickets; without those that tell times."""
    found = {}
    for part in ("", SINGLE_TICKETS):
        events = EventAccumulator(str(folder / part)).Reload()
        tags = [tag for tag in events.Tags()["scalars"] if tag not in TIMES]
        found |= {f"{part}: {tag}": [(event.step, event.value) for event in events.Scalars(tag)] for tag in tags}
    return found
