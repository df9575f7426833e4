"""Ticket files, plain and packed, are read to the bit, by numpy too; what is no ticket is one clear line."""

import json
import re
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
import torch
from safetensors.torch import load_file, save, save_file

import sparselearning.tickets
from models import build
from sparselearning import Masking, load_ticket
from sparselearning.packing import VALUES, pack
from sparselearning.tickets import digest_of, packed, plain, read, read_header
from tests.exact import bits
from tests.misuse import every, refused
from tests.tickets import sparse_network

HEADER = {"data": "cifar10", "density": "0.1"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ticket.safetensors"


@pytest.fixture
def sound(path: Path) -> bytes:
    return packed(sparse_network(), HEADER)


# ---- reading -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["plain", "packed"])
def test_both_forms_are_read_to_the_bit(form, path, sound):
    path.write_bytes(sound if form == "packed" else plain(sparse_network(), HEADER))
    for source in (path, str(path)):
        assert bits(load_ticket(source)) == bits(sparse_network())


def test_a_packed_file_keeps_what_a_ticket_says_of_itself_and_its_digest(path, sound):
    path.write_bytes(sound)
    expected = HEADER | {"sha256": digest_of(sparse_network(), HEADER)}
    assert read_header(path) == expected and read(path)[1] == HEADER


def test_the_same_ticket_is_the_same_file(path, sound):
    path.write_bytes(sound)
    assert packed(*read(path)) == sound
    assert plain(*read(path)) == plain(sparse_network(), HEADER)
    path.write_bytes(plain(sparse_network(), HEADER))
    assert bits(load_file(path)) == bits(sparse_network())
    assert packed(*read(path)) == sound


@pytest.mark.parametrize("values", [None, *VALUES])
def test_numpy_reads_it_in_the_lines_of_the_docstring(values, path):
    path.write_bytes(packed(sparse_network(), HEADER, values))
    lines = textwrap.dedent(re.findall(r"(?:\n    .*)+", sparselearning.tickets.__doc__ or "")[0]).strip()
    assert len(lines.splitlines()) == 10
    if values == "bf16":  # which numpy does not have
        return
    names: dict[str, Any] = {"path": path, "json": json, "np": np, "safetensors": safetensors}
    exec(lines, names)
    found = {name: torch.from_numpy(np.asarray(array)) for name, array in names["ticket"].items()}
    assert bits(found) == bits(load_ticket(path))


def test_vgg16_of_a_twentieth_of_its_weights_gets_12_times_smaller_and_20_times_with_bf16():
    torch.manual_seed(0)
    model = build("vgg16", 10)
    Masking(model, torch.optim.SGD(model.parameters(), lr=0.1), method="rigl", density=0.05)
    ticket = model.state_dict()
    dense = len(save(ticket))
    assert dense > 4 * 14_977_728  # its maskable weights
    assert dense / len(packed(ticket, HEADER)) > 16 and dense / len(packed(ticket, HEADER, "bf16")) > 28


# ---- what is no ticket ---------------------------------------------------------------------------------------------


@every({
    "nothing there": (lambda path: None, "there is no ticket"),
    "text": (lambda path: path.write_text("ticket"), "is not a readable ticket"),
    "empty": (lambda path: path.write_bytes(b""), "is not a readable ticket"),
    "a folder": (lambda path: path.mkdir(), "is not a readable ticket: it is no file"),
    "a layout that is no JSON": (lambda path: save_file({}, path, {"packed": "{", "sha256": ""}), "not a readable"),
    "a deep layout": (lambda path: save_file({}, path, {"packed": "[" * 10**5, "sha256": ""}), "not a readable"),
    "a list": (lambda path: save_file({}, path, {"packed": "[]", "sha256": ""}), "its layout is a list"),
    "no digest": (lambda path: save_file({}, path, {"packed": "{}"}), "has no layout or no digest"),
    "no layout": (lambda path: save_file(pack(sparse_network())[0], path), "has no layout or no digest"),
}, "make", "message")  # fmt: skip
def test_what_is_no_ticket_is_refused(make, message, path):
    make(path)
    refused(lambda: load_ticket(path), message)


def test_what_is_no_path_is_refused():
    for source in (None, b"ticket", 3):
        refused(lambda source=source: load_ticket(source), "is read from a path")


def test_without_the_library_of_the_format_a_line_says_so(path, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors", None)
    refused(lambda: load_ticket(path), r"^ticket files need safetensors: pip install 'safetensors\[torch\]'$")


def test_a_plain_file_whose_digest_does_not_fit_is_refused(path):
    save_file(sparse_network(), path, {"sha256": digest_of(sparse_network()), "data": "cifar10"})
    assert bits(load_ticket(path)) == bits(load_file(path))  # the digest of older tickets is of their tensors only
    save_file({**sparse_network(), "conv.bias": torch.ones(32)}, path, {"sha256": digest_of(sparse_network())})
    refused(lambda: load_ticket(path), "is damaged: its content does not match the digest")
