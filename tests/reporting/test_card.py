"""The model card of a ticket says what its run folder says, and nothing that it does not."""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import torchvision
import yaml

from models import build
from sparselearning import UsageError
from tests.misuse import every, refused
from utils.command_line.options import CifarOptions, ImageNetOptions, effective
from utils.command_line.parser import parse
from utils.files.whole import write_whole
from utils.reporting.card import card, origin

ABOUT = {"data": "cifar10", "model": "resnet20", "method": "granet", "seed": "3", "density": "0.05", "epochs": "10"}
RUN = "--model resnet20 --epochs 10 --sparse --method granet --density 0.05 --seed 3 --data-dir /home/me/cifar"


def numbers(accuracy: float) -> dict[str, float]:
    return {"accuracy": accuracy, "nll": 0.25, "ece": 0.015}


def run_folder(folder: Path, options: str = RUN, recipe: Any = CifarOptions, **test: Any) -> Path:
    """What the files of a finished run say; returns its ticket, which is not there."""
    args = effective(parse(recipe, "", options.split()))
    own = {name: args[name] for name in ("data", "model", "seed", "epochs")}
    own |= {"method": args["method"], "density": args["density"], "sup_tickets": bool(args.get("sup_tickets"))}
    test = {"tickets": [], "final": numbers(90), **test}
    counts = {"maskable": 1000, "nnz": 50, "flops": {"train_ratio": 0.25, "test_ratio": 0.125}}
    write_whole(folder / "summary.json", json.dumps({**own, **counts, "test": test}))
    write_whole(folder / "args.yaml", yaml.safe_dump(args))
    env = {"command": "main_cifar.py", "python": "3.11", "torch": "2.14", "device": "cpu", "devices": 1, "commit": "c0"}
    write_whole(folder / "env.json", json.dumps(env))
    return folder / "ticket.safetensors"


def text_of(ticket: Path, header: dict[str, str] = ABOUT, **more: Any) -> tuple[dict[str, Any], str]:
    """The metadata of the card, and the rest of it."""
    state = build("resnet20", 10).state_dict()
    options = {"values": None, "license": None, **more}
    text = card("me/tiny", options.pop("state", state), origin(ticket, header), **options)
    _, metadata, rest = text.split("---\n", 2)
    return yaml.safe_load(metadata), rest


def accuracy_of(metadata: dict[str, Any]) -> Any:
    return metadata["model-index"][0]["results"][0]["metrics"][0]["value"]


def test_it_says_what_was_trained_how_and_how_well(tmp_path):
    metadata, text = text_of(run_folder(tmp_path, final=numbers(91.234)))
    assert (metadata["license"], metadata["datasets"], accuracy_of(metadata)) == ("unknown", ["uoft-cs/cifar10"], 91.23)
    assert "granet" in metadata["tags"]
    assert "50 of 1,000 connections (density 0.0500), trained by GraNet, 10 epochs, seed 3." in text
    assert re.search(r"\*\*final\*\* \(this one\) +\| 91\.23 % +\| 0\.250 +\| 0\.015", text)
    assert "0.25 times the FLOPs" in text and "On 1 × cpu; python 3.11, torch 2.14; commit c0." in text
    assert "License: not stated" in text and "rounded" not in text and "/home/me" not in text


@pytest.mark.parametrize("options, recipe", [
    (RUN, CifarOptions),
    (f"{RUN} --sup-tickets --num-tickets 2 --cycle-epochs 1 --exempt conv1.* fc --lr-drops 0.4 0.8", CifarOptions),
    ("--sparse --edst --exploration-epochs 4 --refine-epochs 3 --num-tickets 2 --data-dir /home/me", CifarOptions),
    ("--data-dir /home/me/photos --model resnet18 --sparse --sup-tickets", ImageNetOptions),
])  # fmt: skip
def test_its_command_trains_the_same_again(options, recipe, tmp_path):
    ticket = run_folder(tmp_path, options, recipe)
    _, text = text_of(ticket, {})
    script, *words = shlex.split(re.findall(r"```\npython (.*?)\n```", text)[0])
    assert script == {CifarOptions: "main_cifar.py", ImageNetOptions: "main_imagenet.py"}[recipe]
    again, recorded = effective(parse(recipe, "", words)), yaml.safe_load((tmp_path / "args.yaml").read_text())
    assert again == {name: value for name, value in recorded.items() if name != "data_dir"}
    assert "/home/me" not in text


@every({
    "superposed": ("ticket", {"tickets": [numbers(1), numbers(2)], "superposed": numbers(3)}, 3),
    "one of its tickets": ("tickets/ticket-2", {"tickets": [numbers(1), numbers(2)], "superposed": numbers(3)}, 2),
    "packed": ("ticket.packed", {"tickets": [numbers(1), numbers(2)], "superposed": numbers(3)}, 3),
    "the normal phase": ("tickets/normal", {"normal": numbers(4), "tickets": [numbers(1)]}, 4),
    "the last of an ensemble": ("ticket", {"tickets": [numbers(1), numbers(2)], "ensemble": numbers(5)}, 2),
}, "name", "test", "accuracy")  # fmt: skip
def test_the_accuracy_is_that_of_this_ticket(name, test, accuracy, tmp_path):
    run_folder(tmp_path, **test)
    metadata, text = text_of(tmp_path / f"{name}.safetensors")
    assert accuracy_of(metadata) == accuracy
    assert f"{accuracy:.2f} %" in next(line for line in text.splitlines() if "(this one)" in line)


def test_another_file_in_the_folder_has_no_accuracy_of_its_own(tmp_path):
    run_folder(tmp_path)
    metadata, text = text_of(tmp_path / "soup.safetensors")
    assert "model-index" not in metadata and "this one" not in text


def test_what_is_rounded_and_licensed_is_said(tmp_path):
    metadata, text = text_of(run_folder(tmp_path), values="bf16", license="mit")
    assert metadata["license"] == "mit" and "License: mit." in text
    assert "connections are rounded to bf16" in text and "measured before values were rounded to bf16" in text


def test_a_ticket_without_a_run_folder_says_what_its_header_says(tmp_path):
    metadata, text = text_of(tmp_path / "ticket.safetensors")
    assert "A sparse resnet20 for cifar10, trained by GraNet, 10 epochs, seed 3." in text
    assert "model-index" not in metadata and "## Results" not in text and "## Training" not in text


def test_the_network_is_the_one_that_the_tensors_fit(tmp_path):
    for state, header, call in (
        (build("resnet20", 7, 0.5).state_dict(), {"model": "resnet20", "width": "0.5"},
         'build("resnet20", 7, width=0.5)'),
        (torchvision.models.resnet18(num_classes=5).state_dict(), {"model": "resnet18"},
         'build("resnet18", 5, image_size=224)'),
    ):  # fmt: skip
        _, text = text_of(tmp_path / "ticket.safetensors", header, state=state)
        assert f"model = {call}\nmodel.load_state_dict(load_ticket(\"hf://me/tiny\"))" in text
    _, text = text_of(tmp_path / "ticket.safetensors", {"model": "mine"})
    assert "import build" not in text and 'state = load_ticket("hf://me/tiny")' in text


@every({
    "no results": ({"test": None}, "is not the folder of a finished run"),
    "another seed": ({"seed": 4}, "is of seed 3, but the run in .* of 4: keep it in the folder of its own run"),
    "no counts": ({"nnz": None}, "is not the folder of a finished run: nnz is None"),
    "no FLOPs": ({"flops": {}}, "make no model card: 'train_ratio' is missing"),
    "results that are none": ({"test": {"tickets": [], "final": 3}}, "is not the folder of a finished run: final is 3"),
}, "changes", "message")  # fmt: skip
def test_a_damaged_run_folder_is_one_line(changes, message, tmp_path):
    ticket = run_folder(tmp_path)
    summary = json.loads((tmp_path / "summary.json").read_text())
    write_whole(tmp_path / "summary.json", json.dumps({**summary, **changes}))
    refused(lambda: text_of(ticket), message)


def test_a_summary_that_is_no_json_is_one_line(tmp_path):
    ticket = run_folder(tmp_path)
    (tmp_path / "env.json").write_text("[]")
    with pytest.raises(UsageError, match="is not the folder of a finished run"):
        origin(ticket, ABOUT)
