"""Damaged tickets are refused in one line: none is loaded silently, and nothing in them is executed."""

import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from models import MODELS
from sparselearning.errors import UsageError
from tests.run_folder.damage import Pickled, assert_refused, damaged_bytes
from tests.tiny import tiny_world
from utils.run_folder.tickets import load_ticket, save_ticket


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
