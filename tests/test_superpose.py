"""Saved tickets superposed: as in the run that made them, greedily, across runs; and what cannot be superposed."""

import contextlib
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import pytest
import torch
import torchvision
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import main_cifar
import utils.superpose
from models import MODELS
from sparselearning import Superposition
from sparselearning.averages import AVERAGES
from sparselearning.layers import maskable_weights
from tests.commands import run_command
from tests.scripts import run_script
from tests.tiny import tiny_world
from utils.data.cifar import load_cifar
from utils.evaluate import predict
from utils.run_folder.tickets import save_ticket
from utils.superpose import greedy, main
from utils.training.metrics import per_sample, summarize

VALID, TEST = 0.25, 100
SPARSE = f"--limit-train 240 --limit-test {TEST} --batch-size 20 --lr 0.1 --sparse --density 0.3"
TICKETS = f"{SPARSE} --epochs 7 --sup-tickets --cycle-epochs 1 --num-tickets 3 --save-tickets"
RUNS = {
    "cia": TICKETS,
    "caa": f"{TICKETS} --superpose caa --method set",
    "cima": f"{TICKETS} --superpose cima --cima-beta 0.6",
    "exempt": f"{TICKETS} --exempt 7.weight 0.*",
    "recompute": f"{TICKETS} --bn recompute --batch-size 128 --valid-fraction {VALID}",
    "valid": f"{TICKETS} --valid-fraction {VALID} --lr-high 0.1",
    "other": f"{SPARSE} --epochs 8 --valid-fraction {VALID} --seed 1",
}


class Small(nn.Sequential):
    def __init__(self, classes: int, width: float = 1.0) -> None:
        layers = [nn.Conv2d(3, 8, 4, stride=4, bias=False), nn.BatchNorm2d(8), nn.ReLU()]
        layers += [nn.Conv2d(8, 16, 3, stride=2), nn.BatchNorm2d(16), nn.ReLU()]
        super().__init__(*layers, nn.Flatten(), nn.Linear(144, classes))


@pytest.fixture(scope="module", autouse=True)
def small():
    with mock.patch.dict(MODELS, small=Small):
        yield


@dataclass
class Finished:
    folder: Path

    @property
    def tickets(self) -> list[Path]:
        return sorted(self.folder.glob("tickets/ticket-*"))

    @property
    def ticket(self) -> Path:
        return self.folder / "ticket.safetensors"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Call it with a name of RUNS: returns the finished run, trained once on digits."""
    done: dict[str, Finished] = {}

    def run(name: str) -> Finished:
        if name not in done:
            done[name] = Finished(tmp_path_factory.mktemp("runs") / name)
            words = f"--data digits --model small {RUNS[name]} --output-dir {done[name].folder}"
            with (
                tiny_world(),
                mock.patch.object(main_cifar, "load_cifar", load_cifar),
                contextlib.redirect_stdout(io.StringIO()),
            ):
                run_script(main_cifar, *words.split())
        return done[name]

    return run


@dataclass
class Superposed:
    """What the command has left: its ticket, the header of it, the content of --json, and what it printed."""

    ticket: dict[str, Tensor]
    header: dict[str, str]
    summary: dict
    lines: list[str]
    err: str


@pytest.fixture
def superpose(tmp_path, capsys):
    """Call it with a command line."""

    def call(*words: object) -> Superposed:
        output, numbers = tmp_path / "new.safetensors", tmp_path / "numbers.json"
        run_command(main, *words, "--output", output, "--overwrite", "--json", numbers)
        out, err = capsys.readouterr()
        with safe_open(output, "pt") as file:
            header = file.metadata()
        return Superposed(load_file(output), header, json.loads(numbers.read_text()), out.splitlines(), err)

    return call


@pytest.fixture
def refused(tmp_path, capsys, monkeypatch):
    """Call it with a command line that is wrong: returns the one line on stderr."""
    monkeypatch.chdir(tmp_path)

    def refuse(*words: object) -> str:
        before, _ = sorted(tmp_path.iterdir()), capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            run_command(main, *words)
        out, err = capsys.readouterr()
        assert (stop.value.code, out, err.count("\n")) == (2, "", 1) and err.endswith("\n")
        assert sorted(tmp_path.iterdir()) == before  # nothing written
        return err

    return refuse


@pytest.fixture
def no_data(monkeypatch):
    def load(*args: object, **options: object) -> None:
        raise AssertionError("data is read")

    monkeypatch.setattr(utils.superpose, "load_cifar", load)


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(a[name].equal(b[name]) and a[name].dtype == b[name].dtype for name in a)


def weights(exempt: tuple[str, ...] = ()) -> list[str]:
    return list(maskable_weights(Small(10), exempt))


def nnz(ticket: dict[str, Tensor], names: list[str]) -> int:
    return sum(int(ticket[name].count_nonzero()) for name in names)


def total(ticket: dict[str, Tensor], names: list[str]) -> int:
    return sum(ticket[name].numel() for name in names)


# ---- without data ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", ["", "--superpose caa", "--superpose cima --cima-beta 0.6"])
def test_the_tickets_of_a_run_give_the_ticket_of_the_run(options, finished, superpose, no_data):
    run = finished(options.split()[1] if options else "cia")
    new = superpose("--tickets", *run.tickets, *options.split())
    assert same(new.ticket, load_file(run.ticket))
    assert new.err == "" and new.lines[-1] == f"3 of 3 tickets superposed in {new.summary['output']}"
    assert [line.split()[0] for line in new.lines[1:-1]] == [*map(str, run.tickets), "superposed"]


def test_layers_that_the_run_exempts_stay_dense(finished, superpose, no_data):
    run = finished("exempt")
    new = superpose("--tickets", *run.tickets)
    assert same(new.ticket, load_file(run.ticket)) and new.header["exempt"] == "7.weight 0.*"
    names = weights(("7.weight", "0.*"))
    assert new.summary["superposed"]["nnz"] == nnz(new.ticket, names) == round(0.3 * total(new.ticket, names))
    assert new.ticket["0.weight"].count_nonzero() == new.ticket["0.weight"].numel()


@pytest.mark.parametrize("method", AVERAGES)
@pytest.mark.parametrize("density", [0.05, 0.3, 0.777, 1])
def test_the_weights_kept_are_exactly_the_density(method, density, finished, superpose, no_data):
    tickets = [*finished("cia").tickets, finished("other").ticket]
    new = superpose("--tickets", *tickets, "--superpose", method, "--density", density)
    count = round(density * total(new.ticket, weights()))
    assert nnz(new.ticket, weights()) == new.summary["superposed"]["nnz"] == count
    assert float(new.header["density"]) == density and f"{count:,}" in new.lines[-2]


def test_the_header_says_what_the_tickets_share_and_how_they_were_superposed(finished, superpose):
    run = finished("cia")
    header = superpose("--tickets", *run.tickets, "--superpose", "cima").header
    assert header.pop("sha256") and header == {
        "data": "digits", "model": "small", "width": "1.0", "method": "rigl", "sup_tickets": "True", "seed": "0",
        "epochs": "7", "density": "0.3", "exempt": "", "limit_train": "240", "valid_fraction": "0.0",
        "image_size": "32", "mean": "0.3054 0.3054 0.3054", "std": "0.3237 0.3237 0.3237", "flip": "none",
        "superpose": "cima", "cima_beta": "0.8", "bn": "average", "greedy": "False",
        "prune_average": "every", "tickets": " ".join(map(str, run.tickets)),
    }  # fmt: skip
    mixed = superpose("--tickets", run.ticket, finished("other").ticket).header
    assert (mixed["model"], mixed["limit_train"], mixed["superpose"]) == ("small", "240", "cia")
    assert not {"seed", "epochs", "valid_fraction", "cima_beta"} & {*mixed}  # they do not share it


def test_plain_files_of_equal_tensors(tmp_path, finished, superpose, no_data):
    run = finished("cia")
    bare = [tmp_path / path.name for path in run.tickets]
    for path, ticket in zip(bare, run.tickets, strict=True):
        save_file(load_file(ticket), path)
    for options in ((), ("--model", "small")):
        new = superpose("--tickets", *bare, "--density", 0.3, *options)
        assert same(new.ticket, load_file(run.ticket))
    assert "data" not in new.header


def test_tickets_of_a_classifier_of_photographs(tmp_path, superpose, no_data):
    tickets, paths = [], [tmp_path / f"{i}.safetensors" for i in range(2)]
    for path in paths:
        model = torchvision.models.squeezenet1_1(num_classes=3)
        tickets.append(model.state_dict())
        save_ticket(path, model.state_dict(), {"data": "imagenette", "model": "squeezenet1_1", "density": 0.1})
    new = superpose("--tickets", *paths)
    names = list(maskable_weights(model))
    assert nnz(new.ticket, names) == round(0.1 * total(new.ticket, names))
    mean = (tickets[0]["classifier.1.weight"] + tickets[1]["classifier.1.weight"]) / 2
    kept = new.ticket["classifier.1.weight"] != 0
    assert torch.equal(new.ticket["classifier.1.weight"], mean * kept) and kept.any()


# ---- with data -------------------------------------------------------------------------------------------------------


def metrics(ticket: dict[str, Tensor], split: str) -> dict[str, float]:
    splits = load_cifar("digits", None, "cpu", limit_train=240, limit_test=TEST, valid_fraction=VALID)
    model, images = Small(10), getattr(splits, split)
    model.load_state_dict(ticket)
    return summarize(per_sample(predict(model, images), images.labels))


def test_an_evaluation_is_of_each_ticket_and_the_superposition(finished, superpose):
    run = finished("cia")
    new = superpose("--tickets", *run.tickets, "--evaluate", "--limit-test", TEST)
    test = json.loads((run.folder / "summary.json").read_text())["test"]
    for found, path, own in zip(new.summary["tickets"], run.tickets, test["tickets"], strict=True):
        assert found["file"] == str(path) and {key: found[key] for key in own} == pytest.approx(own, rel=1e-3)
    found = new.summary["superposed"]
    assert {key: found[key] for key in test["superposed"]} == pytest.approx(test["superposed"], rel=1e-3)
    assert f"{found['accuracy']:.2f} %" in new.lines[-2]


def test_recomputed_statistics_are_those_of_the_run_and_change_nothing_else(finished, superpose):
    run = finished("recompute")
    averaged = superpose("--tickets", *run.tickets).ticket
    recomputed = superpose("--tickets", *run.tickets, "--bn", "recompute").ticket
    assert same(recomputed, load_file(run.ticket))
    changed = {name for name in averaged if not averaged[name].equal(recomputed[name])}
    assert changed == {f"{layer}.{name}" for layer in "14" for name in ("running_mean", "running_var",
                                                                        "num_batches_tracked")}  # fmt: skip


def test_tickets_of_independent_runs_lie_in_different_basins(finished, superpose):
    pair = [finished(name).ticket for name in ("valid", "other")]
    new = superpose("--tickets", *pair, "--evaluate", "--limit-test", TEST)
    assert min(row["accuracy"] for row in new.summary["tickets"]) > new.summary["superposed"]["accuracy"] + 10
    assert new.err.startswith("warning: the superposition is worse") and new.err.count("\n") == 1
    assert "basins" in new.err
    for ticket in pair:
        same_basin = superpose("--tickets", ticket, ticket, "--evaluate", "--limit-test", TEST)
        assert same_basin.err == "" and same(same_basin.ticket, load_file(ticket))


# ---- the greedy soup -------------------------------------------------------------------------------------------------


def by_hand(tickets: list[Tensor], alone: list[float], count: int, accuracy: Callable[[Tensor], float]) -> list[int]:
    """Which tickets Recipe 1 keeps, every superposition from scratch: the mean, and its `count` largest weights."""

    def superposed(chosen: list[int]) -> float:
        mean = torch.stack([tickets[i] for i in chosen]).mean(0)
        return accuracy(mean * (mean.abs() >= mean.abs().topk(count).values[-1]))

    first, *others = sorted(range(len(tickets)), key=lambda i: -alone[i])
    kept = [first]
    for i in others:
        if superposed([*kept, i]) >= superposed(kept):
            kept.append(i)
    return kept


@pytest.mark.parametrize("seed", range(20))
def test_a_greedy_soup_is_the_one_by_hand(seed):
    rng = torch.Generator().manual_seed(seed)
    goal = torch.randn(8, generator=rng)
    tickets = [goal + torch.randn(8, generator=rng) for _ in range(5)]

    def accuracy(weight: Tensor) -> float:
        return 100 - round((weight - goal).abs().sum().item())  # rounded, so that some are equal

    alone = [accuracy(ticket) for ticket in tickets]
    rows = [{"file": str(i), "valid_accuracy": value} for i, value in enumerate(alone)]
    soup, kept = greedy(
        rows,
        Superposition(["w"], 5, prune="last"),
        lambda path: {"w": tickets[int(str(path))]},
        lambda trial: accuracy(trial.ticket()["w"]),
    )
    expected = by_hand(tickets, alone, 5, accuracy)
    assert [int(row["file"]) for row in kept] == expected
    assert [i for i, row in enumerate(rows) if row["kept"]] == sorted(expected)
    whole = Superposition(["w"], 5, prune="last")
    for i in expected:
        whole.add({"w": tickets[i]})
    assert same(soup.ticket(), whole.ticket())


@pytest.mark.parametrize("bn", ["average", "recompute"])
def test_a_greedy_soup_leaves_out_what_makes_it_worse_on_validation_images(bn, finished, superpose):
    run, other = finished("valid"), finished("other").ticket
    tickets = [*run.tickets, other]
    new = superpose("--tickets", *tickets, "--greedy", "--bn", bn, "--limit-test", TEST)
    rows = new.summary["tickets"]
    for path, row in zip(tickets, rows, strict=True):
        assert row["valid_accuracy"] == pytest.approx(metrics(load_file(path), "valid")["accuracy"])
        assert row["accuracy"] == pytest.approx(metrics(load_file(path), "test")["accuracy"])
    order = sorted(rows, key=lambda row: -row["valid_accuracy"])
    kept = [row for row in order if row["kept"]]
    assert 0 < len(kept) < 4 and order[0]["kept"] and {run.tickets[0].parent} >= {Path(r["file"]).parent for r in kept}
    assert new.header["tickets"].split() == [row["file"] for row in kept]
    assert new.header["prune_average"] == "last"
    best = 0.0
    for row in order:
        assert row["kept"] == (row["soup_accuracy"] >= best)
        best = max(best, row["soup_accuracy"])
    assert new.summary["superposed"]["valid_accuracy"] == best == metrics(new.ticket, "valid")["accuracy"]
    assert [line.split()[-1] for line in new.lines[1:5]] == [str(row["kept"]) for row in rows]
    assert f"{len(kept)} of 4 tickets" in new.lines[-1] and nnz(new.ticket, weights()) == kept[0]["nnz"]


def test_greedy_needs_images_that_no_ticket_was_trained_on(tmp_path, finished, refused):
    seen, held_out, both = finished("cia").tickets, finished("valid").tickets, []
    assert "train with --valid-fraction 0.1" in refused("--tickets", *seen, "--greedy")
    assert "train all with" in refused("--tickets", *seen, *held_out, "--greedy")
    assert "--valid-fraction 0.2 is not what" in refused("--tickets", *held_out, "--greedy", "--valid-fraction", 0.2)
    assert "--limit-train 200 is not what" in refused("--tickets", *held_out, "--greedy", "--limit-train", 200)
    for i, path in enumerate(held_out):
        both.append(tmp_path / f"{i}.safetensors")
        save_ticket(both[-1], load_file(path), {"data": "digits", "model": "small", "density": 0.3})
    assert "add their --valid-fraction" in refused("--tickets", *both, "--greedy")
    run_command(main, "--tickets", *both, "--greedy", "--valid-fraction", VALID, "--limit-train", 240)


# ---- mistakes --------------------------------------------------------------------------------------------------------


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
