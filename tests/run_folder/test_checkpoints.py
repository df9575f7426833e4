"""A checkpoint is written whole or not at all, and removes only older ones of its run."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sparselearning.errors import UsageError
from utils.run_folder.checkpoints import KEEP, find_checkpoints, load_checkpoint, save_checkpoint


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
