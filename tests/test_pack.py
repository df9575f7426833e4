"""utils.pack: files of a run packed and read again by every command, and pushed to a stand-in of the Hub."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from models import build
from sparselearning import UsageError, load_ticket
from sparselearning.layers import maskable_weights
from tests.commands import refused_by, run_command
from tests.exact import bits
from tests.hub import TOKEN, Hub, constants, standing_in
from utils import evaluate, superpose
from utils.files.whole import write_whole
from utils.pack import main
from utils.run_folder.tickets import read_ticket, save_ticket

ABOUT = {"data": "digits", "model": "resnet20", "width": 0.5, "method": "rigl", "seed": 0, "density": 0.1, "epochs": 3}


def network(seed: int) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    model = build("resnet20", 10, 0.5)
    for weight in maskable_weights(model).values():
        weight.data[torch.rand(weight.shape) > 0.1] = 0
    return model.state_dict()


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run folder without training."""
    folder = tmp_path / "run"
    for seed, name in enumerate(("ticket", "tickets/ticket-1", "tickets/ticket-2")):
        save_ticket(folder / f"{name}.safetensors", network(seed), ABOUT)
    numbers = {"accuracy": 90.5, "nll": 0.3, "ece": 0.01}
    test = {"final": numbers, "tickets": [numbers, numbers], "superposed": {**numbers, "accuracy": 91.25}}
    flops = {"train": 1e12, "train_ratio": 0.25, "test_ratio": 0.5}
    summary = {**ABOUT, "sup_tickets": True, "maskable": 67_000, "nnz": 6_700, "test": test, "flops": flops}
    write_whole(folder / "summary.json", json.dumps(summary))
    write_whole(folder / "args.yaml", "data: digits\nmodel: resnet20\nwidth: 0.5\nsparse: true\ndensity: 0.1\n"
                "data_dir: /home/me/images\noutput_dir: /home/me/run\n")  # fmt: skip
    return folder


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with standing_in(tmp_path / "cache") as stand_in:
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield stand_in


def pack(*words: object) -> None:
    run_command(main, *words)


@pytest.fixture
def refused(tmp_path: Path) -> Callable[..., str]:
    """Call it with a command line that is wrong: returns the one line on stderr; no file is written or changed."""

    def files() -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file() and "cache" not in path.parts}

    def refuse(*words: object) -> str:
        before = files()
        line = refused_by(main, *words)
        assert files() == before
        return line

    return refuse


# ---- files ---------------------------------------------------------------------------------------------------------


def test_tickets_are_packed_beside_themselves_to_the_bit(run, capsys):
    tickets = sorted(run.glob("tickets/*"))
    pack(*tickets)
    lines = capsys.readouterr().out.splitlines()
    for ticket, line in zip(tickets, lines, strict=True):
        output = ticket.with_name(f"{ticket.stem}.packed.safetensors")
        ratio = sum(tensor.nbytes for tensor in load_file(ticket).values()) / output.stat().st_size
        assert line.startswith(f"{output}: 0.28 MB in 0.0") and line.endswith(f", {ratio:.1f} times smaller")
        assert bits(load_ticket(output)) == bits(load_file(ticket))


def test_a_packed_file_is_packed_again_with_shorter_values(run, tmp_path):
    pack(run / "ticket.safetensors")
    pack(run / "ticket.packed.safetensors", "--values", "bf16", "--output", tmp_path / "small.safetensors")
    small, own = load_ticket(tmp_path / "small.safetensors"), load_file(run / "ticket.safetensors")
    for name, tensor in own.items():
        assert torch.equal(small[name], tensor.bfloat16().float() if tensor.ndim > 1 else tensor)


def test_every_command_takes_a_packed_ticket_as_it_takes_others(run, tmp_path, capsys):
    plain = sorted(run.glob("tickets/*"))
    pack(*plain)
    packed = sorted(run.glob("tickets/*.packed.*"))
    capsys.readouterr()
    found = []
    for files in (plain, packed):
        run_command(evaluate.main, "--tickets", *files, "--limit-test", 20, "--json", tmp_path / "numbers.json")
        numbers = json.loads((tmp_path / "numbers.json").read_text())
        found.append((numbers["ensemble"], [{**row, "file": ""} for row in numbers["tickets"]]))
        run_command(superpose.main, "--tickets", *files, "--output", tmp_path / f"{len(found)}.safetensors")
    assert found[0] == found[1]
    first, second = (read_ticket(tmp_path / f"{i}.safetensors") for i in (1, 2))
    assert bits(first) == bits(second)


def test_weights_of_minus_zero_are_told(tmp_path, capsys):
    save_file({"weight": torch.full((30, 30), -0.0)}, tmp_path / "ticket.safetensors")
    pack(tmp_path / "ticket.safetensors")
    assert "warning: " in (err := capsys.readouterr().err) and "900 weights of -0.0, which are kept" in err


def test_what_is_wrong_is_one_line(run, refused, tmp_path):
    ticket, other = run / "ticket.safetensors", run / "tickets/ticket-1.safetensors"
    assert "there is no ticket" in refused(tmp_path / "none")
    assert "is not a readable ticket" in refused(run / "summary.json")
    assert "give one FILE" in refused(ticket, other, "--output", tmp_path / "x.safetensors")
    assert "give one FILE" in refused(ticket, other, "--card")
    assert "cannot be written" in refused(ticket, "--output", tmp_path / "none/x.safetensors")
    assert "another file of this command" in refused(ticket, "--output", ticket, "--overwrite")
    assert "is not to be replaced" in refused(other, "--output", ticket, "--overwrite")
    assert "--private does nothing without --push-to-hub" in refused(ticket, "--private")
    assert "--output does nothing with --card" in refused(ticket, "--card", "--output", tmp_path / "x.safetensors")
    assert "write OWNER/NAME" in refused(ticket, "--push-to-hub", "vgg16")
    pack(ticket)
    assert "exists: give another --output, or --overwrite" in refused(ticket)
    pack(ticket, "--overwrite")


# ---- the Hub -------------------------------------------------------------------------------------------------------


def sent(hub: Hub) -> list[tuple[str, str]]:
    return [(method, path) for method, path, _ in hub.requests if method in ("POST", "PUT")]


def test_nothing_is_sent_without_the_option(run, hub, capsys):
    pack(run / "ticket.safetensors", "--card", "--push-to-hub", "me/tiny")
    card = capsys.readouterr().out
    pack(run / "ticket.safetensors")
    assert sent(hub) == [] and card.startswith("---\n") and "hf://me/tiny" in card


def test_a_ticket_and_its_card_are_pushed_in_one_commit_and_load_again(run, hub, capsys):
    ticket = run / "ticket.safetensors"
    pack(ticket, "--push-to-hub", "me/tiny", "--license", "mit")
    assert f'{hub.url}/me/tiny: load_ticket("hf://me/tiny")' in capsys.readouterr().out
    (files,) = hub.repositories["me/tiny"].values()
    assert files.keys() == {"ticket.safetensors", "README.md"} and len(files["ticket.safetensors"]) < 60_000
    assert bits(load_ticket("hf://me/tiny")) == bits(load_file(ticket))
    assert hub.private == set() and not list(run.glob("*.packed.*"))
    assert {token for method, _, token in hub.requests if method == "POST"} == {TOKEN}
    card = files["README.md"].decode()
    assert "license: mit" in card and "/home/me" not in card
    names: dict[str, object] = {}
    exec(re.findall(r"```python\n(.*?)```", card, re.DOTALL)[0], names)  # the lines that load it
    assert bits(names["model"].state_dict()) == bits(load_file(ticket))


def test_a_repository_that_is_there_gets_a_commit_only_when_asked(run, hub, refused):
    words = (run / "ticket.safetensors", "--push-to-hub", "me/tiny")
    pack(*words, "--private")
    assert hub.private == {"me/tiny"}
    assert "is there: give another name, or --overwrite" in refused(*words)
    pack(*words, "--private", "--overwrite", "--values", "bf16")
    assert [len(files) for files in hub.repositories["me/tiny"].values()] == [2, 2]
    hub.private.clear()
    assert "is public: make it private" in refused(*words, "--private", "--overwrite")


def test_without_a_token_nothing_is_asked(run, hub, refused, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    assert "needs a token of yours" in refused(run / "ticket.safetensors", "--push-to-hub", "me/tiny")
    assert hub.requests == []
    monkeypatch.setenv("HF_TOKEN", "hf_another")
    assert "your token is not valid" in refused(run / "ticket.safetensors", "--push-to-hub", "me/tiny")
    assert hub.repositories == {}


def test_a_hub_out_of_reach_is_one_line(run, hub, refused, monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert "me/tiny cannot be reached: mind" in refused(run / "ticket.safetensors", "--push-to-hub", "me/tiny")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "unset HF_HUB_OFFLINE" in refused(run / "ticket.safetensors", "--push-to-hub", "me/tiny")


def test_a_card_is_not_made_of_another_run(run, refused):
    save_ticket(run / "ticket.safetensors", network(0), {**ABOUT, "seed": 1})
    assert "is of seed 1, but the run in" in refused(run / "ticket.safetensors", "--card")
    with pytest.raises(UsageError):
        load_ticket("hf://nobody")
