"""Superposed tickets on images: their numbers, batch norm recomputed, and those that do not go together."""

import json

import pytest
from safetensors.torch import load_file

from tests.superpose.runs import TEST, same


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
