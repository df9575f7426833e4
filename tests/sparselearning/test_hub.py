"""load_ticket("hf://OWNER/NAME") against a stand-in of the Hub; what cannot be had is one line that says what to do."""

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from sparselearning import load_ticket
from sparselearning.tickets import packed
from tests.exact import bits
from tests.hub import GATED, Hub, constants, standing_in
from tests.misuse import every, refused
from tests.tickets import sparse_network


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    with standing_in(tmp_path) as stand_in:
        yield stand_in


def test_a_ticket_is_loaded_from_the_hub_and_from_the_copy_that_is_kept(hub):
    hub.commit("someone/vgg16", {"ticket.safetensors": packed(sparse_network(), {})})
    for _ in range(2):
        assert bits(load_ticket("hf://someone/vgg16")) == bits(sparse_network())
    assert [method for method, path, _ in hub.requests if "resolve" in path] == ["HEAD", "GET", "HEAD"]


def test_a_revision_is_the_one_that_is_asked_for(hub):
    first = hub.commit("someone/vgg16", {"ticket.safetensors": packed({"weight": torch.ones(3, 3)}, {})})
    hub.commit("someone/vgg16", {"ticket.safetensors": packed({"weight": torch.zeros(3, 3)}, {})})
    assert load_ticket(f"hf://someone/vgg16@{first}")["weight"].sum() == 9
    assert load_ticket("hf://someone/vgg16")["weight"].sum() == 0


@every({
    "no name": ("hf://", "is no ticket on the Hub: write hf://OWNER/NAME"),
    "no owner": ("hf://vgg16", "is no ticket on the Hub"),
    "a file in it": ("hf://someone/vgg16/ticket.safetensors", "is no ticket on the Hub"),
    "no revision": ("hf://someone/vgg16@", "is no ticket on the Hub"),
    "letters that no name has": ("hf://some one/vgg?16", "was refused: "),
    "nothing there": ("hf://someone/else", "is not there, or private: .* `hf auth login`"),
    "a revision that it does not have": ("hf://someone/vgg16@v7", "has no such revision: leave it out"),
    "no ticket in it": ("hf://someone/empty", r"holds no ticket\.safetensors"),
    "not for everybody": (f"hf://{GATED}", "is gated, and not open to you yet: ask for access"),
    "damaged": ("hf://someone/damaged", "is not a readable ticket"),
}, "address", "message")  # fmt: skip
def test_what_cannot_be_loaded_is_one_line(address, message, hub):
    hub.commit("someone/vgg16", {"ticket.safetensors": packed(sparse_network(), {})})
    hub.commit("someone/empty", {"README.md": b"nothing here"})
    hub.commit("someone/damaged", {"ticket.safetensors": packed(sparse_network(), {})[:-1]})
    refused(lambda: load_ticket(address), message)


def test_a_hub_out_of_reach_is_one_line_unless_a_copy_is_kept(hub, monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda seconds: None)  # between attempts
    hub.commit("someone/vgg16", {"ticket.safetensors": packed(sparse_network(), {})})
    load_ticket("hf://someone/vgg16")
    nobody = "http://127.0.0.1:9"
    monkeypatch.setattr(constants, "ENDPOINT", nobody)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", nobody + "/{repo_id}/resolve/{revision}/{filename}")
    assert bits(load_ticket("hf://someone/vgg16")) == bits(sparse_network())
    refused(lambda: load_ticket("hf://someone/else"), "cannot be reached, and no copy is kept here: mind the network")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    refused(lambda: load_ticket("hf://someone/else"), "cannot be reached")


def test_without_its_library_a_line_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    refused(lambda: load_ticket("hf://a/b"), "^hf://a/b needs huggingface_hub: pip install huggingface_hub$")
