"""Superposed tickets on images: their numbers, batch norm recomputed, and those that do not go together."""

import json

import pytest
from safetensors.torch import load_file

from tests.superpose.runs import TEST, same
from utils.command_line.commands.picture import PictureOptions
from utils.pictures.line import NEW, walk


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


def test_a_wall_stands_between_runs_of_different_seeds_and_none_between_tickets_of_a_run(finished):
    def loss(*tickets: object) -> list[float]:
        options = PictureOptions(picture="line", tickets=tickets, limit_test=TEST, points=5)
        return [numbers["nll"] for numbers in walk(options)["metrics"][NEW]]

    basin, (valid, other) = finished("cia"), (finished(name).ticket for name in ("valid", "other"))
    along = loss(basin.tickets[1], basin.tickets[2], basin.ticket)
    assert max(along) < 1.1 * max(along[0], along[4], along[8])
    wall = loss(valid, other)
    assert max(wall[1:4]) > 1.5 * max(wall[0], wall[4])
