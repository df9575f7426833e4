"""A run that is cut anywhere, in any way, and goes on ends with the very bits of a run that was never cut."""

import errno
import os
import random
import resource
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from sparselearning.errors import UsageError
from tests.outcomes import differences, last_state, outcome
from tests.processes import finish, start
from tests.tiny import SPARSE, SUP_TICKETS, main
from utils.run_folder.checkpoints import KEEP, find_checkpoints, load_checkpoint, save_checkpoint

STEPS = 24
RUN = (*SPARSE, *SUP_TICKETS, "--model", "tiny")
METHODS = {
    "static": ("--method", "static"),
    "snip": ("--method", "snip", "--superpose", "caa"),
    "set": ("--method", "set", "--prune-rate-decay", "cosine"),
    "rigl": ("--method", "rigl"),
    "granet": ("--method", "granet", "--prune-end", "0.3", "--superpose", "cima"),
    "gmp": ("--method", "gmp", "--prune-end", "0.3"),
}
VARIANTS = {
    "momentum": ("--method", "rigl", "--growth", "momentum", "--superpose", "caa", "--save-tickets"),
    "accumulation": ("--method", "set", "--batch-size", "4", "--gradient-accumulation-steps", "4", "--bn", "recompute"),
    "clipping": ("--method", "rigl", "--clip-grad-norm", "0.5", "--valid-fraction", "0.3", "--include-normal"),
    "bf16": ("--method", "rigl", "--mixed-precision", "bf16"),
}


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., dict[str, Any]]:
    """The outcome of a run that nothing cuts."""
    outcomes: dict[tuple[str, ...], dict[str, Any]] = {}

    def run(*options: str) -> dict[str, Any]:
        if options not in outcomes:
            folder = tmp_path_factory.mktemp("straight")
            assert main(folder, *options)[0] == 0
            outcomes[options] = outcome(folder)
        return outcomes[options]

    return run


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
    while kills < 20 or killed == 0:
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


# ---- the moment of writing -----------------------------------------------------------------------------------------


class Killed(BaseException):
    """What no `except` of the program sees, as little as it sees SIGKILL."""


class Killer:
    """Ends the program before its n-th operation on files."""

    EVENTS = ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir")

    def __init__(self) -> None:
        self.left: int | None = None
        sys.addaudithook(self)

    def __call__(self, event: str, args: tuple[Any, ...]) -> None:
        if self.left is not None and event in self.EVENTS and not (event == "open" and args[1] in (None, "r", "rb")):
            self.left -= 1
            if self.left < 0:
                self.left = None
                raise Killed


@pytest.fixture(scope="module")
def killer() -> Iterator[Killer]:
    killer = Killer()
    yield killer
    killer.left = None


@pytest.mark.parametrize("present, step", [((), 30), ((10,), 30), ((10, 20), 30), ((30,), 30), ((20, 30), 30)])
def test_no_moment_of_a_save_leaves_a_folder_without_checkpoint(present, step, killer, tmp_path):
    for moment in range(100):
        folder = tmp_path / str(moment)
        checkpoints = folder / "checkpoints"
        for old in present:
            save_checkpoint(checkpoints / f"step-{old:08d}", old, {"step": old, "new": False}, {})
        killer.left = moment
        try:
            save_checkpoint(checkpoints / f"step-{step:08d}", step, {"step": step, "new": True}, {})
        except Killed:
            complete = [state for path in find_checkpoints(folder, "auto") if (state := readable(path))]
            assert complete or not present
            assert not complete or complete[0] in [{"step": max(present, default=0), "new": False},
                                                   {"step": step, "new": True}]  # fmt: skip
            save_checkpoint(checkpoints / "step-00000040", 40, {"step": 40}, {})
            assert readable(next(find_checkpoints(folder, "auto"))) == {"step": 40}
            assert not list(checkpoints.glob("*.partial")), "what a crash left over is cleared up"
        else:
            break
    killer.left = None
    assert moment > 4, "every operation was tried"
    assert len(list(checkpoints.iterdir())) == min(KEEP, len({*present, step}))


def readable(path: Path) -> dict[str, Any] | None:
    try:
        return load_checkpoint(path, {})
    except UsageError:
        return None


def test_a_checkpoint_just_written_is_never_removed(tmp_path):
    """Also where newer ones lie about, because the run went on from an older one."""
    for step in (20, 30, 10):
        save_checkpoint(tmp_path / f"step-{step:08d}", step, {"step": step}, {})
    assert readable(tmp_path / "step-00000010") == {"step": 10}


def test_only_checkpoints_of_the_run_are_removed(tmp_path):
    """Not a copy with a name of its own, not another run's, not what is no checkpoint."""
    run, others = {"seed": 0}, ("step-00000005-keep", "step-00000003.old", "mine.partial", "step-6")
    save_checkpoint(tmp_path / "step-00000001", 1, {"step": 1}, {"seed": 1})
    for name in others:
        (tmp_path / name).mkdir()
        (tmp_path / name / "state.pt").write_text("keep me")
    (tmp_path / "step-00000002").write_text("a file")
    (tmp_path / "step-00000004").mkdir()  # half removed when the program was killed
    (tmp_path / "step-00000009.partial").mkdir()
    for step in range(10, 15):
        save_checkpoint(tmp_path / f"step-{step:08d}", step, {"step": step}, run)
    kept = {*others, "step-00000001", "step-00000002", "step-00000013", "step-00000014"}
    assert {path.name for path in tmp_path.iterdir()} == kept


# room for the options but not for the events, for both but not for a checkpoint, for nothing
@pytest.mark.parametrize("size", [20_000, 100], ids="{} bytes".format)
def test_a_full_disk_is_one_clear_line(size, straight, tmp_path):
    options = (*RUN, "--method", "rigl")
    main(tmp_path, *options, stop=7)
    before, log = last_state(tmp_path), tmp_path / "log"
    assert finish([start(on_full_disk, tmp_path, size, log, *options, "--resume", "auto")]) == [2]
    assert_one_line(log.read_text(), "File too large")
    assert differences(before, last_state(tmp_path)) == []
    assert main(tmp_path, *options, "--resume", "auto")[0] == 0
    assert differences(straight(*options), outcome(tmp_path)) == []


def on_full_disk(folder: Path, size: int, log: Path, *options: str) -> tuple[int, str, str]:
    """No file can grow beyond `size`, as on a disk that is nearly full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        status, out, err = main(folder, *options)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    log.write_text(err)
    return status, out, err


@pytest.mark.parametrize("files", ["utils.run_folder.checkpoints.torch.save", "utils.reporting.tracking.write_whole",
                                   "utils.training.run.save_ticket",
                                   "utils.reporting.summary.write_whole"])  # fmt: skip
def test_a_folder_that_became_read_only_is_one_clear_line(files, straight, tmp_path):
    options = (*RUN, "--method", "rigl")
    main(tmp_path, *options, stop=7)
    with mock.patch(files, side_effect=OSError(errno.EROFS, "Read-only file system")):
        status, _, err = main(tmp_path, *options, "--resume", "auto")
    assert status == 2
    assert_one_line(err, "Read-only file system")
    assert main(tmp_path, *options, "--resume", "auto")[0] == 0
    assert differences(straight(*options), outcome(tmp_path)) == []


# ---- which checkpoint, and of which run ----------------------------------------------------------------------------


def assert_one_line(err: str, *parts: str) -> None:
    assert err.count("\n") == 1, err
    assert "Traceback" not in err
    assert all(part in err for part in parts), err


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


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


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


def test_the_curves_have_no_gap_and_nothing_twice(tmp_path):
    """Also where the cut comes at the end of an epoch, whose row is already there."""
    main(tmp_path / "cut", *RUN, stop=6)
    main(tmp_path / "cut", *RUN, "--resume", "auto", stop=12)
    main(tmp_path / "cut", *RUN, "--resume", "auto")
    main(tmp_path / "straight", *RUN)
    assert curves(tmp_path / "cut") == curves(tmp_path / "straight")


def curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    events = EventAccumulator(str(folder / "tensorboard")).Reload()
    tags = [tag for tag in events.Tags()["scalars"] if not tag.startswith("speed/")]
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in tags}


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
