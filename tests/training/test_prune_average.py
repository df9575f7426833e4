"""`--prune-average`: the next average goes on from the pruned one (line 11 of Algorithm 1), or from the plain mean."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from tests.commands import run_command
from tests.tiny import SPARSE, main, tiny_world
from utils.superpose import main as superpose

RUN = (*SPARSE, "--model", "tiny", "--epochs", "8", "--sup-tickets", "--cycle-epochs", "1", "--num-tickets", "4",
       "--save-tickets", "--resume", "auto")  # fmt: skip
LAYERS = ("0.weight", "4.weight", "8.weight")
Weights = dict[str, Tensor]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same run with either; cut before its third ticket, so that the average goes through a checkpoint."""
    root = tmp_path_factory.mktemp("runs")
    for name in ("every", "last"):
        assert main(root / name, *RUN, "--prune-average", name, stop=19)[0] == 143
        assert main(root / name, *RUN, "--prune-average", name)[0] == 0
    return {name: root / name for name in ("every", "last")}


def pruned(average: Weights, count: int) -> Weights:
    """The largest of all layers together."""
    least = torch.cat([average[name].abs().flatten() for name in LAYERS]).sort(descending=True).values[count - 1]
    return {name: torch.where(average[name].abs() >= least, average[name], 0) for name in LAYERS}


def by_hand(tickets: list[Weights], count: int, every: bool) -> Weights:
    """Eq. 4, with or without line 11 between."""
    average = {name: tickets[0][name].double() for name in LAYERS}
    for t, ticket in enumerate(tickets[1:], 2):
        average = {name: ((t - 1) * average[name] + ticket[name].double()) / t for name in LAYERS}
        average = pruned(average, count) if every else average
    return pruned(average, count)


def tickets_of(run: Path) -> list[Path]:
    return [run / f"tickets/ticket-{i}.safetensors" for i in (1, 2, 3, 4)]


@pytest.mark.parametrize("name", ["every", "last"])
def test_a_run_superposes_as_it_is_told(name: str, runs: dict[str, Path]) -> None:
    tickets = [load_file(path) for path in tickets_of(runs[name])]
    count = json.loads((runs[name] / "summary.json").read_text())["nnz"]
    expected, other = by_hand(tickets, count, name == "every"), by_hand(tickets, count, name == "last")
    found = load_file(runs[name] / "ticket.safetensors")
    for layer in LAYERS:
        torch.testing.assert_close(found[layer].double(), expected[layer], rtol=1e-5, atol=1e-9)
    assert any((expected[layer] != 0).ne(other[layer] != 0).any() for layer in LAYERS)  # it makes a difference


def test_with_the_model_of_the_normal_phase_it_is_the_released_codes_running_mean(tmp_path: Path) -> None:
    """There prev·(1 − f) + cur·f with f = 1/(t + 1), pruned each time; the first prev is that model."""
    assert main(tmp_path, *RUN, "--include-normal")[0] == 0
    count = json.loads((tmp_path / "summary.json").read_text())["nnz"]
    released = {name: load_file(tmp_path / "tickets/normal.safetensors")[name].double() for name in LAYERS}
    for t, path in enumerate(tickets_of(tmp_path), 1):
        f, ticket = 1 / (t + 1), load_file(path)
        released = pruned({name: released[name] * (1 - f) + ticket[name].double() * f for name in LAYERS}, count)
    found = load_file(tmp_path / "ticket.safetensors")
    for layer in LAYERS:
        torch.testing.assert_close(found[layer].double(), released[layer], rtol=1e-5, atol=1e-9)


def test_training_goes_on_from_the_ticket_whichever_is_chosen(runs: dict[str, Path]) -> None:
    for one, other in zip(*(tickets_of(run) for run in runs.values()), strict=True):
        assert all(torch.equal(tensor, load_file(other)[name]) for name, tensor in load_file(one).items())


def test_every_averaging_is_the_default(runs: dict[str, Path], tmp_path: Path) -> None:
    assert main(tmp_path, *RUN)[0] == 0
    found, expected = (load_file(run / "ticket.safetensors") for run in (tmp_path, runs["every"]))
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


@pytest.mark.parametrize("options", [("--prune-average", "every"), ("--prune-average", "last"), ()])
def test_saved_tickets_are_superposed_as_in_their_run(
    options: tuple[str, ...], runs: dict[str, Path], tmp_path: Path
) -> None:
    name = options[-1] if options else "every"
    files = [str(path) for path in tickets_of(runs[name])]
    output, numbers = tmp_path / "new.safetensors", tmp_path / "numbers.json"
    with tiny_world():
        run_command(superpose, "--tickets", *files, *options, "--output", output, "--json", numbers)
    found, expected = load_file(output), load_file(runs[name] / "ticket.safetensors")
    assert all(torch.equal(found[key], tensor) for key, tensor in expected.items())
    with safe_open(output, "pt") as file:
        assert file.metadata()["prune_average"] == json.loads(numbers.read_text())["prune_average"] == name


def test_a_run_does_not_go_on_with_the_other(tmp_path: Path) -> None:
    assert main(tmp_path, *RUN, stop=19)[0] == 143
    status, _, err = main(tmp_path, *RUN, "--prune-average", "last")
    assert status == 2 and "prune_average" in err and err.count("\n") == 1
