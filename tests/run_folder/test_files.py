"""A file is whole or not there, nobody else's is written, and a ticket that is not what it says is refused."""

import math
import os
import secrets
import stat
import threading
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from sparselearning.errors import UsageError
from sparselearning.tickets import digest_of, read_header
from utils.files.whole import read_json, read_whole, write_whole
from utils.run_folder.tickets import read_ticket, save_ticket

TICKET = {"conv.weight": torch.arange(24.0).view(2, 3, 2, 2), "steps": torch.tensor(3)}


def write_text(path: Path) -> None:
    write_whole(path, "new")


def write_ticket(path: Path) -> None:
    save_ticket(path, TICKET, {"model": "any"})


WRITERS = [write_text, write_ticket]


# ---- writing -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("write", WRITERS)
def test_a_link_beside_a_file_leads_to_no_other_file(write, tmp_path):
    (tmp_path / "stranger's").write_text("kept")
    for name in ("new.partial", "new"):
        (tmp_path / name).symlink_to(tmp_path / "stranger's")
    write(tmp_path / "new")
    assert (tmp_path / "stranger's").read_text() == "kept"
    assert (tmp_path / "new").is_file() and not (tmp_path / "new").is_symlink()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "new.partial", "stranger's"]


@pytest.mark.parametrize("write", WRITERS)
def test_a_name_that_was_guessed_is_refused(write, tmp_path, monkeypatch):
    monkeypatch.setattr(secrets, "token_hex", lambda size: "guessed")
    (tmp_path / "stranger's").write_text("kept")
    (tmp_path / "new.guessed.partial").symlink_to(tmp_path / "stranger's")
    with pytest.raises(FileExistsError):
        write(tmp_path / "new")
    assert (tmp_path / "stranger's").read_text() == "kept" and not (tmp_path / "new").exists()


@pytest.mark.parametrize("write", WRITERS)
def test_a_failure_leaves_the_old_file_and_nothing_else(write, tmp_path, monkeypatch):
    (tmp_path / "new").write_text("old")
    monkeypatch.setattr(os, "fsync", lambda file: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space left") as error:
        write(tmp_path / "new")
    assert error.value.filename == str(tmp_path / "new")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("new", "old")]


@pytest.mark.parametrize("write", WRITERS)
def test_a_file_has_the_rights_of_any_other(write, tmp_path):
    write(tmp_path / "new")
    (tmp_path / "other").touch()
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == stat.S_IMODE((tmp_path / "other").stat().st_mode)


def test_a_pipe_is_written_into_and_stays(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    got: list[str] = []
    reader = threading.Thread(target=lambda: got.append((tmp_path / "pipe").read_text()), daemon=True)
    reader.start()
    write_whole(tmp_path / "pipe", "text")
    reader.join(10)
    assert got == ["text"] and stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


def test_a_device_stays_what_it_is(tmp_path):
    (tmp_path / "null").symlink_to(os.devnull)
    write_whole(tmp_path / "null", "text")
    assert (tmp_path / "null").is_symlink() and os.listdir(tmp_path) == ["null"]


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="no /proc")
def test_an_open_file_is_added_to(tmp_path):
    with open(tmp_path / "out", "w") as out:
        print("table", file=out, flush=True)
        write_whole(Path(f"/proc/self/fd/{out.fileno()}"), "numbers")
    assert (tmp_path / "out").read_text() == "table\nnumbers" and os.listdir(tmp_path) == ["out"]


# ---- reading -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("read", [read_ticket, read_header, read_json, read_whole])
def test_a_pipe_is_refused_and_not_waited_for(read, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises((UsageError, OSError), match="pipe"):
        read(tmp_path / "pipe")
    with pytest.raises((UsageError, OSError), match="zero"):
        read(Path("/dev/zero"))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_ticket_with_a_value_that_is_no_number_is_refused(value, tmp_path):
    spoiled = TICKET["conv.weight"].clone()
    spoiled[1, 2, 0, 1] = value
    save_ticket(tmp_path / "ticket", {**TICKET, "conv.weight": spoiled}, {})
    with pytest.raises(UsageError, match=r"ticket holds NaN or infinite values in conv\.weight: "):
        read_ticket(tmp_path / "ticket")


# ---- the digest ----------------------------------------------------------------------------------------------------


def header_of(path: Path) -> dict[str, str]:
    with safe_open(path, "pt") as file:
        return file.metadata()


def test_the_digest_covers_what_a_ticket_says_of_itself(tmp_path):
    save_ticket(tmp_path / "ticket", TICKET, {"data": "cifar10", "density": 0.1, "limit": None})
    header = header_of(tmp_path / "ticket")
    assert header.keys() == {"data", "density", "sha256"}
    for other in ({"density": "0.2"}, {"width": "2.0"}, {"data": None}):
        changed = {key: value for key, value in {**header, **other}.items() if value is not None}
        save_file(TICKET, tmp_path / "changed", changed)
        with pytest.raises(UsageError, match="changed is damaged: its content does not match"):
            read_ticket(tmp_path / "changed")


def test_tickets_whose_digest_is_of_their_tensors_still_load(tmp_path):
    old = {"data": "cifar10", "sha256": digest_of(TICKET)}
    save_file(TICKET, tmp_path / "old", old)
    assert all(torch.equal(read_ticket(tmp_path / "old")[name], tensor) for name, tensor in TICKET.items())
    save_file({**TICKET, "steps": torch.tensor(4)}, tmp_path / "old", old)
    with pytest.raises(UsageError, match="old is damaged"):
        read_ticket(tmp_path / "old")


def test_the_digest_of_tensors_is_counted_as_ever():
    """A figure of an older version: its tickets must still be found sound."""
    ticket: dict[str, Tensor] = {"b": torch.tensor([1, 2]), "a.weight": torch.ones(2, 3)}
    assert digest_of(ticket) == "f77173941b9dfb218e5964801dfe3e6c14c9e8fffcace322ef50fcca1875d74d"
