"""The FLOPs of a table: of one dense training, the same for all rows of a network, whatever length they train."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.commands import run_command
from tests.reporting.summaries import PLAIN, write
from utils.report import main

EPOCH = 3e12  # FLOPs of a dense epoch
DENSE = {"method": "dense", "density": 1.0}


def run(folder: Path, epochs: int, spent: float, summary: dict[str, Any], rigl: float = 1.0, **options: Any) -> None:
    """A finished run of so many epochs whose training cost `spent` dense ones; `rigl`: that count, times the plain."""
    network = options.get("width", 1.0) ** 2 * EPOCH
    flops = {"train": spent * network, "dense_epoch": network, "train_ratio": spent / epochs, "test_ratio": 0.5}
    flops |= {f"{name}_rigl": number * (1 if name == "dense_epoch" else rigl) for name, number in flops.items()}
    write(folder, {**PLAIN, "epochs": epochs, "flops": flops, **summary}, **options)


@pytest.fixture
def table(tmp_path, capsys):
    """Call it with options: returns the costs of the rows by their title, and the sentence below the table."""

    def read(*options: object) -> tuple[dict[str, list[float | None]], str]:
        file = tmp_path / "table.json"
        run_command(main, tmp_path / "runs", *options, "--json", file)
        said = capsys.readouterr().out.split("\n\n")[1].strip()
        rows = json.loads(file.read_text())
        return {row["title"]: [row["train FLOPs"], row["test FLOPs"]] for row in rows}, said

    return read


def test_rows_of_any_length_are_relative_to_the_dense_row(tmp_path, table):
    runs = tmp_path / "runs"
    run(runs / "dense", 250, 250, DENSE)
    run(runs / "edst", 450, 450 * 0.337, {}, edst=True)
    run(runs / "snapshot", 200, 200, DENSE, snapshot=True)
    run(runs / "pf", 500, 3 * (250 + 250 * 0.25), {"method": "pf"}, ensemble=3)
    costs, said = table()
    assert {title: train for title, (train, _) in costs.items()} == pytest.approx(
        {"Dense": 1.0, "RigL, EDST": 0.6066, "Dense, Snapshot": 0.8, "PF, ensemble of 3": 3.75}
    )
    assert said.endswith("1× is one dense training, 250 epochs of vgg16 on cifar10 (7.50e+14 FLOPs)")


def test_the_length_of_the_dense_training_is_an_option(tmp_path, table):
    run(tmp_path / "runs/a", 450, 450 * 0.3, {}, edst=True)
    run(tmp_path / "runs/b", 250, 250, DENSE)
    costs, said = table("--dense-epochs", 150)
    assert costs["RigL, EDST"][0] == pytest.approx(0.9) and costs["Dense"][0] == pytest.approx(250 / 150)
    assert "150 epochs of vgg16" in said
    with pytest.raises(SystemExit) as stop:
        table("--dense-epochs", 0)
    assert stop.value.code == 2


def test_without_a_dense_row_it_is_as_long_as_the_longest_plain_run_else_the_longest(tmp_path, table):
    run(tmp_path / "runs/edst", 450, 135, {"test": {**PLAIN["test"], "ensemble": PLAIN["test"]["final"]}}, edst=True)
    assert "450 epochs" in table()[1]
    run(tmp_path / "runs/a", 250, 75, {})
    run(tmp_path / "runs/b", 200, 60, {"density": 0.1})
    assert "250 epochs" in table()[1]


def test_a_smaller_network_is_relative_to_the_whole_one(tmp_path, table):
    run(tmp_path / "runs/dense", 100, 100, DENSE)
    run(tmp_path / "runs/small", 100, 100, DENSE, width=0.5)
    costs, _ = table()
    assert costs == {"Dense": [1, 0.5], "Small-Dense": [0.25, 0.125]}


def test_each_network_and_data_set_has_its_own_dense_training(tmp_path, table):
    run(tmp_path / "runs/a", 80, 80 * 0.2, {"model": "resnet20"})
    run(tmp_path / "runs/b", 60, 60 * 0.3, {"method": "set"}, width=0.25)
    costs, said = table()
    assert costs["RigL"][0] == pytest.approx(0.2) and costs["SET, width 0.25"][0] == pytest.approx(0.3)
    assert "80 epochs of resnet20 on cifar10" in said and "60 epochs of vgg16 of width 0.25 on cifar10" in said


def test_widths_of_small_dense_networks_are_told_apart(tmp_path, capsys):
    run(tmp_path / "runs/a", 100, 100, DENSE, width=0.5)
    run(tmp_path / "runs/b", 100, 100, DENSE, width=0.25)
    run_command(main, tmp_path / "runs")
    header, _, *rows = [line.split("|") for line in capsys.readouterr().out.split("\n\n")[0].splitlines()]
    column = [cell.strip() for cell in header].index("width")
    assert sorted(row[column].strip() for row in rows) == ["0.25", "0.5"]


def test_flops_counted_as_rigl_does(tmp_path, table):
    run(tmp_path / "runs/a", 100, 41, {"method": "static"}, rigl=1.1)
    (plain,), (rigl,) = (table(*option)[0].values() for option in ((), ("--counting", "rigl")))
    assert plain == pytest.approx([0.41, 0.5]) and rigl == pytest.approx([0.451, 0.55])
    assert "counted as RigL does" in table("--counting", "rigl")[1]


# what a run of an older version said: FLOPs relative to a training of this many epochs
OLDER = [
    ({}, {}, 250),
    ({"epochs": 450}, {"edst": True, "exploration_epochs": 150, "refine_epochs": 100}, 250),
    ({"epochs": 500, "method": "pf"}, {"sparse": True, "method": "pf"}, 250),
    ({"epochs": 500, "method": "pf"}, {"sparse": True, "method": "pf", "fine_tune_epochs": 100}, 400),
    ({"epochs": 310}, {"edst": True, "exploration_epochs": 30, "refine_epochs": 70, "eval_only": False}, 100),
]


@pytest.mark.parametrize(("summary", "options", "relative_to"), OLDER)
def test_an_older_run_is_read_as_it_was_meant(tmp_path, table, summary, options, relative_to):
    write(tmp_path / "runs/old", {**PLAIN, **summary, "flops": {"train_ratio": 0.5, "test_ratio": 0.2}}, **options)
    ((train, test),) = table("--dense-epochs", 100)[0].values()
    assert train == pytest.approx(0.5 * relative_to / 100) and test == 0.2
    assert "FLOPs)" not in table()[1]  # it does not say how many
    assert "but plainly in runs of older versions" in table("--counting", "rigl")[1]


def test_an_older_and_smaller_network_does_not_say_what_it_costs_beside_the_whole(tmp_path, table):
    run(tmp_path / "runs/dense", 100, 100, DENSE)
    write(tmp_path / "runs/small", {**PLAIN, **DENSE, "epochs": 100}, width=0.5)
    assert table()[0] == {"Dense": [1, 0.5], "Small-Dense": [None, None]}
