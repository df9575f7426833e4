"""Damaged checkpoints and tickets are refused in one line: none is loaded silently, and nothing in them is executed."""

import copy
import json
import os
import pickle
import random
import shutil
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from models import MODELS
from sparselearning.errors import UsageError
from tests.tiny import SPARSE, SUP_TICKETS, built, main, tiny_world
from utils.files.whole import file_digest
from utils.run_folder.tickets import load_ticket, save_ticket
from utils.training.resume import resume
from utils.training.run import Run

OPTIONS = (*SPARSE, *SUP_TICKETS, "--model", "tiny", "--growth", "momentum", "--superpose", "caa")
RANDOM = random.Random(0)


class Pickled:
    """Would make a folder if it were unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.mkdir, (str(self.mark),)


def assert_refused(error: pytest.ExceptionInfo[UsageError], *parts: object) -> None:
    message = str(error.value)
    assert "\n" not in message
    assert len(message) < 600
    assert all(str(part) in message for part in parts)


def damaged_bytes(content: bytes, cuts: int, flips: int) -> Iterator[bytes]:
    """The content cut short, and with one bit flipped."""
    for i in range(cuts):
        yield content[: len(content) * i // cuts]
    for place in RANDOM.sample(range(len(content)), flips):
        yield content[:place] + bytes([content[place] ^ 1 << RANDOM.randrange(8)]) + content[place + 1 :]


# ---- checkpoints ---------------------------------------------------------------------------------------------------


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


def test_malformed_states_with_a_digest_that_fits(run, checkpoint):
    state = torch.load(checkpoint / "state.pt", weights_only=True)
    accepted, count = [], 0
    for what, changed in malformed(state):
        count += 1
        torch.save(changed, checkpoint / "state.pt")
        manifest = json.loads((checkpoint / "manifest.json").read_text())
        (checkpoint / "manifest.json").write_text(json.dumps(manifest | {"step": changed.get("step")}))
        signed(checkpoint)
        try:
            resume(run, str(checkpoint))
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


# ---- tickets -------------------------------------------------------------------------------------------------------


@pytest.fixture
def like() -> dict[str, Tensor]:
    with tiny_world():
        return MODELS["tiny"](10).state_dict()


@pytest.fixture
def ticket(like: dict[str, Tensor], tmp_path: Path) -> Path:
    save_ticket(tmp_path / "ticket.safetensors", like, {"model": "tiny", "density": 0.05, "seed": 0})
    return tmp_path / "ticket.safetensors"


def test_a_sound_ticket_is_accepted(ticket, like):
    loaded = load_ticket(ticket, like)
    assert all(torch.equal(loaded[name], tensor) for name, tensor in like.items())
    assert all(torch.equal(load_file(ticket)[name], tensor) for name, tensor in like.items())


def test_cut_and_flipped_tickets(ticket, like):
    content = ticket.read_bytes()
    header = 8 + int.from_bytes(content[:8], "little")
    for damaged in [*damaged_bytes(content, 30, 30), *damaged_bytes(content[:header], 0, 90)]:
        ticket.write_bytes(damaged + content[len(damaged) :] if len(damaged) == header else damaged)
        with pytest.raises(UsageError) as error:
            load_ticket(ticket, like)
        assert_refused(error, ticket)


def test_tickets_of_other_models(ticket, like):
    for name in like:
        others = [
            {key: tensor for key, tensor in like.items() if key != name},
            {**like, f"{name}.another": torch.zeros(1)},
            {**like, name: like[name].unsqueeze(0)},
            {**like, name: like[name].flatten().repeat(2)},
            {**like, name: like[name].bool()},
            {(f"module.{key}" if key == name else key): tensor for key, tensor in like.items()},
        ]
        for other in others:
            save_ticket(ticket, other, {})
            with pytest.raises(UsageError) as error:
                load_ticket(ticket, like)
            assert_refused(error, ticket, name)


def test_tickets_that_are_none(ticket, like, tmp_path):
    mark = tmp_path / "mark"
    save_file(like, tmp_path / "unsigned")
    (tmp_path / "pickle").write_bytes(pickle.dumps(Pickled(mark), 2))
    torch.save(like, tmp_path / "state.pt")
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    (tmp_path / "long").write_bytes(b"\xff" * 8 + ticket.read_bytes()[8:])
    for name in ("unsigned", "pickle", "state.pt", "empty", "folder", "long", "missing"):
        with pytest.raises(UsageError) as error:
            load_ticket(tmp_path / name, like)
        assert_refused(error, tmp_path / name)
    assert not mark.exists()
