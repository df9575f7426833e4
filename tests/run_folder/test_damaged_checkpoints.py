"""Damaged checkpoints are refused in one line: none is loaded silently, and nothing in them is executed."""

import copy
import json
import pickle
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sparselearning.errors import UsageError
from tests.run_folder.damage import Pickled, assert_refused, damaged_bytes
from tests.tiny import SPARSE, SUP_TICKETS, built, main, tiny_world
from utils.files.whole import file_digest
from utils.training.resume import restore, resume
from utils.training.run import Run

OPTIONS = (*SPARSE, *SUP_TICKETS, "--model", "tiny", "--growth", "momentum", "--superpose", "caa")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run in its second cycle, so that every part of the state has something in it."""
    folder = tmp_path_factory.mktemp("damage")
    assert main(folder, *OPTIONS, stop=20)[0] == 143
    return folder


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint of another run at the same step."""
    folder = tmp_path_factory.mktemp("elsewhere")
    assert main(folder, *OPTIONS, "--seed", "1", stop=20)[0] == 143
    return folder / "checkpoints/step-00000020"


@pytest.fixture(scope="module")
def run(folder: Path, elsewhere: Path) -> Iterator[Run]:
    with tiny_world():
        yield built("--output-dir", str(folder), *OPTIONS, "--resume", "auto")


@pytest.fixture
def checkpoint(folder: Path, tmp_path: Path) -> Path:
    """A copy that may be damaged."""
    path = tmp_path / "step-00000020"
    shutil.copytree(folder / "checkpoints" / path.name, path)
    return path


def signed(path: Path) -> None:
    """Make the digest fit what is there now, as one could who means harm or knows no better."""
    manifest = json.loads((path / "manifest.json").read_text())
    (path / "manifest.json").write_text(json.dumps(manifest | {"sha256": file_digest(path / "state.pt")}))


def test_a_sound_checkpoint_is_accepted(run, checkpoint):
    assert "at step 20 of 24" in resume(run, str(checkpoint))
    signed(checkpoint)
    assert "at step 20 of 24" in resume(run, str(checkpoint))


@pytest.mark.parametrize("name, cuts, flips", [("state.pt", 30, 50), ("manifest.json", 20, 40)])
def test_cut_and_flipped(name, cuts, flips, run, checkpoint):
    for content in damaged_bytes((checkpoint / name).read_bytes(), cuts, flips):
        (checkpoint / name).write_bytes(content)
        with pytest.raises(UsageError) as error:
            resume(run, str(checkpoint))
        assert_refused(error, checkpoint)


def test_cut_and_flipped_with_a_digest_that_fits(run, checkpoint):
    """Past the digest, torch's own checks meet the zip file; what they let through must be what was saved."""
    state = (checkpoint / "state.pt").read_bytes()
    for content in damaged_bytes(state, 20, 0):
        (checkpoint / "state.pt").write_bytes(content)
        signed(checkpoint)
        with pytest.raises(UsageError) as error:
            resume(run, str(checkpoint))
        assert_refused(error, checkpoint)


def test_missing_and_swapped_files(run, folder, elsewhere, checkpoint, tmp_path):
    older = folder / "checkpoints/step-00000018"
    for name in ("state.pt", "manifest.json"):
        for source in (older, elsewhere, None):
            kept = (checkpoint / name).read_bytes()
            (checkpoint / name).unlink()
            if source is not None:
                shutil.copy(source / name, checkpoint / name)
            with pytest.raises(UsageError) as error:
                resume(run, str(checkpoint))
            assert_refused(error, checkpoint)
            (checkpoint / name).write_bytes(kept)
    for path, part in ((elsewhere, "seed"), (checkpoint / "state.pt", "no complete"), (tmp_path / "no", "no complete")):
        with pytest.raises(UsageError) as error:
            resume(run, str(path))
        assert_refused(error, path, part)


def branches(value: Any, where: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The places of all entries of nested dicts and lists."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*where, key)
        yield from branches(item, (*where, key))


def at(value: Any, where: tuple[Any, ...]) -> Any:
    for key in where:
        value = value[key]
    return value


def malformed(state: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The state with one entry missing, one too many, of another shape, or of another type."""
    for where in branches(state):
        changed = copy.deepcopy(state)
        parent, key = at(changed, where[:-1]), where[-1]
        if where[0] == "circumstances" or (where[0] in ("history", "results") and len(where) > 1):
            continue  # what is reported of the run, nothing that the next step depends on
        if isinstance(parent, dict):
            del parent[key]
            yield f"without {where}", changed
        value = at(state, where)
        others: list[Any] = [None if value is not None else 1, "text"]
        if isinstance(value, Tensor):
            others += [value.unsqueeze(0), value.flatten()[:-1], value.to(torch.int64 if value.is_floating_point()
                                                                         else torch.float32)]  # fmt: skip
        for other in others:
            changed = copy.deepcopy(state)
            at(changed, where[:-1])[key] = other
            yield f"{where} as {type(other).__name__} {getattr(other, 'shape', '')}", changed
        if isinstance(value, dict) and where[0] != "results":
            changed = copy.deepcopy(state)
            at(changed, where)["another"] = torch.zeros(2)
            yield f"more in {where}", changed
    yield "more", {**state, "another": 1}
    for step in (-1, 25, 3, 20.0, True):
        yield f"step {step}", {**state, "step": step}


def test_malformed_states_are_refused(run, checkpoint):
    """Whatever their digest says."""
    state = torch.load(checkpoint / "state.pt", weights_only=True)
    accepted, count = [], 0
    for what, changed in malformed(state):
        count += 1
        try:
            restore(run, changed)
            accepted.append(what)
        except UsageError as error:
            assert "\n" not in str(error)
    assert accepted == []
    assert count > 100


@pytest.mark.parametrize("form", ["plain", "zip", "inside"])
def test_a_checkpoint_executes_nothing(form, run, checkpoint, tmp_path):
    mark, path = tmp_path / "mark", checkpoint / "state.pt"
    if form == "plain":
        path.write_bytes(pickle.dumps(Pickled(mark), 2))
    elif form == "inside":
        torch.save({**torch.load(path, weights_only=True), "results": Pickled(mark)}, path)
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("archive/data.pkl", pickle.dumps(Pickled(mark), 2))
            archive.writestr("archive/version", "3")
    signed(checkpoint)
    with pytest.raises(UsageError) as error:
        resume(run, str(checkpoint))
    assert_refused(error, checkpoint)
    assert not mark.exists()
    pickle.loads(pickle.dumps(Pickled(mark), 2))
    assert mark.exists(), "it would have"
