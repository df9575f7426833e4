"""Checkpoints: all that the next step depends on, in one folder that is complete or does not count."""

import json
import os
import shutil
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import torch

from sparselearning.errors import UsageError
from utils.files.whole import file_digest, read_json, write_json
from utils.run_folder.identity import difference
from utils.run_folder.tickets import ticket_name

KEEP = 2
STEP = "step-" + 8 * "[0-9]"  # what a run names a checkpoint; others, such as a copy to keep, are not its to remove


def checkpoint_path(folder: Path, step: int) -> Path:
    return folder / "checkpoints" / f"step-{step:08d}"


def _written_by(run: Mapping[str, object], path: Path) -> bool:
    """Is this checkpoint one of the run's own, or what is left of one?"""
    try:
        return bool(json.loads((path / "manifest.json").read_text())["run"] == run)
    except FileNotFoundError:
        return {file.name for file in path.iterdir()} <= {"state.pt"}
    except (OSError, ValueError, LookupError, TypeError):
        return False


def save_checkpoint(
    path: Path, step: int, state: Mapping[str, object], run: Mapping[str, object], keep: Path | None = None
) -> None:
    """Write the folder `path` whole or not at all, then remove all of the run beside it but `keep` and the newest KEEP.

    A crash leaves at most a folder named .partial, which nothing reads.

    Raises:
        UsageError: the disk is full or read-only; older checkpoints are untouched.
    """
    partial, replaced = (path.with_name(path.name + suffix) for suffix in (".partial", ".replaced"))
    try:
        for left_over in path.parent.glob(f"{STEP}.partial"):
            shutil.rmtree(left_over)
        partial.mkdir(parents=True)
        with open(partial / "state.pt", "wb") as file:
            torch.save(dict(state), file)
            file.flush()
            os.fsync(file.fileno())
        manifest = {"step": step, "run": run, "sha256": file_digest(partial / "state.pt")}
        write_json(partial / "manifest.json", manifest)
        if path.exists():  # the same step before its ticket was taken
            shutil.rmtree(replaced, ignore_errors=True)
            path.rename(replaced)
        partial.rename(path)
        own = [old for old in sorted(path.parent.glob(STEP)) if old != keep and _written_by(run, old)]
        for old in {*own[:-KEEP], *path.parent.glob(f"{STEP}.replaced")} - {path}:
            shutil.rmtree(old)
    except (OSError, RuntimeError) as error:  # torch.save reports a full disk as a RuntimeError
        shutil.rmtree(partial, ignore_errors=True)
        raise UsageError(
            f"cannot write checkpoint {path}: {' '.join(str(error).split())[:200]}; older ones are untouched: make "
            f"room and go on with --resume auto"
        ) from error


def _manifest(path: Path) -> Mapping[str, object]:
    """Raises UsageError where the checkpoint is incomplete."""
    manifest = read_json(path / "manifest.json") if path.is_dir() else None
    if not isinstance(manifest, dict) or not (path / "state.pt").is_file():
        raise UsageError(f"{path} is no complete checkpoint: give another one or --resume auto")
    return manifest


def check_run(path: Path, run: Mapping[str, object], but: Collection[str] = ()) -> None:
    """Raises UsageError where a checkpoint is from a run with other options than those in `but`."""
    saved = _manifest(path).get("run")
    saved = saved if isinstance(saved, dict) else {}
    if other := difference(saved, run, but):
        raise UsageError(f"checkpoint {path} is from a run with {other}: repeat its options")


def load_checkpoint(path: Path, run: Mapping[str, object], but: Collection[str] = ()) -> dict[str, object]:
    """The state in a checkpoint folder, on the CPU; nothing in it is executed.

    Raises:
        UsageError: it is incomplete, damaged, or from a run with other options than those in `but`.
    """
    manifest = _manifest(path)
    if manifest.get("sha256") != file_digest(path / "state.pt"):
        raise UsageError(f"checkpoint {path} is damaged: its content does not match its digest; use an older one")
    check_run(path, run, but)
    try:
        state = torch.load(path / "state.pt", map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises many kinds of errors for a file that is no checkpoint
        raise UsageError(f"checkpoint {path} cannot be read: {type(error).__name__}; use an older one") from error
    if not isinstance(state, dict) or state.get("step") != manifest.get("step"):
        raise UsageError(f"checkpoint {path} is damaged: it holds no state of step {manifest.get('step')}")
    return state


def find_checkpoints(folder: Path, resume: str) -> Iterator[Path]:
    """The checkpoints to try, best first: the path given, or with "auto" the newest in the run folder and so on."""
    if resume == "auto":
        complete = [path for path in (folder / "checkpoints").glob("step-*") if path.suffix != ".partial"]
        yield from sorted(complete, key=lambda path: (path.stem, path.suffix == ""), reverse=True)
    else:
        yield Path(resume)


def check_kept(folder: Path, tickets: int) -> None:
    """Raises UsageError where a ticket that was kept before, and will be wanted at the end, is not in the folder."""
    kept = [folder / ticket_name(j + 1) for j in range(tickets)]
    if missing := [path for path in kept if not path.is_file()]:
        raise UsageError(f"there is no {missing[0]}: go on in the folder of that run, or copy its tickets too")
