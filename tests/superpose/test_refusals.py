"""Tickets that cannot be superposed, and what is not written over."""

import pytest
import torch
from safetensors.torch import load_file

from tests.commands import run_command
from tests.superpose.runs import same
from utils.run_folder.tickets import save_ticket
from utils.superpose import main


def test_one_ticket_is_refused(finished, refused):
    assert "give --tickets two files or more" in refused("--tickets", finished("cia").ticket)
    assert "--tickets" in refused()


def test_what_is_there_is_not_written_over(tmp_path, finished, refused):
    tickets, output = finished("cia").tickets, tmp_path / "superposed.safetensors"
    output.write_text("mine")
    assert "--overwrite" in refused("--tickets", *tickets)  # the default
    assert "--overwrite" in refused("--tickets", *tickets, "--output", output)
    own = refused("--tickets", *tickets, "--output", tickets[1], "--overwrite")
    assert "is one of the tickets" in own and load_file(tickets[1])
    run_command(main, "--tickets", *tickets, "--overwrite")
    assert same(load_file(output), load_file(finished("cia").ticket))
    assert "cannot be written" in refused("--tickets", *tickets, "--output", output / "below.safetensors")


def test_files_that_are_no_tickets(tmp_path, finished, refused):
    good, missing, text, cut, damaged = finished("cia").ticket, *(tmp_path / name for name in "abcd")
    text.write_text("not a ticket")
    cut.write_bytes(good.read_bytes()[:-100])
    damaged.write_bytes(good.read_bytes()[:-1] + b"\x01")
    for path in (missing, text, cut, damaged, tmp_path):
        assert str(path) in refused("--tickets", good, path) and str(path) in refused("--tickets", path, good)
    assert "damaged" in refused("--tickets", good, damaged)


def test_tickets_that_do_not_agree(tmp_path, finished, refused):
    ticket, path = load_file(finished("cia").ticket), tmp_path / "other.safetensors"
    about = {"data": "digits", "model": "small", "density": 0.3}

    def against(**header: object) -> str:
        save_ticket(path, ticket, about | header)
        return refused("--tickets", finished("cia").ticket, path)

    assert "different model, resnet20 and small" in against(model="resnet20")
    assert "different data, cifar10 and digits" in against(data="cifar10")
    assert "different exempt" in against(exempt="0.*")
    assert "densities 0.2 and 0.3: add --density" in against(density=0.2)
    assert "do not all say their density: add --density" in against(density=None)
    assert "'much', which is no number" in against(density="much")
    save_ticket(path, {**ticket, "7.weight": torch.zeros(9, 144)}, about)
    assert "7.weight is missing or of another shape" in refused("--tickets", finished("cia").ticket, path)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("--model resnet20", "belong to another model than resnet20"),
        ("--model lenet", "has no classifier 'lenet'"),
        ("--density 0", "--density 0.0 is not in (0, 1]"),
        ("--density 1e-9", "each of the 3 layers needs one"),
        ("--superpose cima --cima-beta 1", "not in [0, 1)"),
        ("--cima-beta 0.5", "--cima-beta does nothing without --superpose cima"),
        ("--valid-fraction 0.1", "--valid-fraction does nothing without --greedy"),
        ("--limit-train 9", "--limit-train does nothing without --greedy or --bn recompute"),
        ("--limit-test 9", "--limit-test does nothing without --evaluate"),
        ("--evaluate --limit-test 0", "--limit-test 0 is not a positive number"),
        ("--evaluate --limit-test 9999", "give 1 to"),
        ("--data-dir .", "leave out --data-dir"),
        ("--evaluate --data imagenette", "unknown --data imagenette: choose from"),
        ("--superpose swa", "--superpose"),
    ],
)
def test_a_wrong_command_line(words, says, finished, refused):
    assert says in refused("--tickets", *finished("cia").tickets, *words.split())
