"""Which runs are a row of the report: those that differ in nothing but the seed, whatever version wrote them."""

import json

from tests.commands import run_command
from tests.reporting.summaries import PLAIN, metrics, sup_tickets, write
from utils.report import main


def test_other_options_part_groups_and_are_shown_only_then(tmp_path, table):
    write(tmp_path / "a", sup_tickets(0, 94.0), superpose="cia", output_dir="a", resume=None, seed=0)
    write(tmp_path / "b", sup_tickets(1, 95.0), superpose="cia", output_dir="b", resume="auto", seed=1)
    (row,) = table(tmp_path)
    assert row["seeds"] == "2" and "superpose" not in row
    write(tmp_path / "c", sup_tickets(0, 93.0), superpose="caa", output_dir="c", resume=None, seed=0)
    assert [(row["superpose"], row["seeds"]) for row in table(tmp_path)] == [("caa", "1"), ("cia", "2")]


def test_batches_of_another_size_are_another_setting(tmp_path, table):
    for seed, size in enumerate((64, 64, 128)):
        write(tmp_path / str(seed), {**PLAIN, "seed": seed}, batch_size=size, checkpoint_minutes=seed, workers=seed)
    assert [(row["batch_size"], row["seeds"]) for row in table(tmp_path)] == [("128", "1"), ("64", "2")]


def test_a_seed_twice_is_pointed_out(tmp_path, capsys):
    write(tmp_path / "a", PLAIN)
    write(tmp_path / "b", PLAIN)
    run_command(main, tmp_path)
    assert "repeats seed 0" in capsys.readouterr().err


def test_runs_are_found_in_any_way_they_are_named_and_once(tmp_path, table, monkeypatch):
    folder = write(tmp_path / "runs" / "x" / "a", PLAIN)
    write(tmp_path / "runs" / "b", {**PLAIN, "seed": 1})
    (tmp_path / "runs" / "unfinished").mkdir()
    expected = table(tmp_path / "runs")
    assert expected[0]["seeds"] == "2"
    assert table(folder / "summary.json", tmp_path / "runs", folder) == expected
    monkeypatch.chdir(folder)
    assert table("..")[0]["seeds"] == table(".")[0]["seeds"] == "1"


REGIMES = [
    ({}, {}, "RigL"),
    (sup_tickets(0, 94.0), {}, "RigL + Sup-tickets"),
    (sup_tickets(0, 94.0), {"cycle_lr": "swa", "growth": "none"}, "RigL + SWA"),
    ({}, {"edst": True, "num_tickets": 3, "refine_epochs": 9, "save_tickets": True}, "RigL, EDST"),
    ({}, {"ensemble": 3}, "RigL, ensemble of 3"),
    ({}, {"distill": ["a/ticket-1.safetensors"], "temperature": 1.0}, "RigL + distillation"),
    ({"method": "static"}, {"rewind": "runs/gmp/seed-0", "ensemble": 3}, "Static, rewound (LTR), ensemble of 3"),
    ({"method": "pf"}, {"fine_tune_epochs": 125}, "PF"),
    ({"method": "dense", "density": 1.0}, {"width": 0.34}, "Small-Dense"),
    ({"method": "dense", "density": 1.0}, {"snapshot": True, "num_tickets": 12}, "Dense, Snapshot"),
    ({"method": "dense", "density": 1.0}, {"fge": True, "lr_high": 0.05}, "Dense, FGE"),
]


def test_every_regime_has_its_title_and_no_columns_of_what_follows_from_it(tmp_path, table):
    for number, (summary, args, _) in enumerate(REGIMES):
        write(tmp_path / str(number), {**PLAIN, **summary}, method="rigl", **args)
    rows = table(tmp_path)
    assert sorted(row["method"] for row in rows) == sorted(title for *_, title in REGIMES)
    known = {"data", "model", "method", "sparsity", "epochs", "seeds", "normal phase", "ticket 1", "ticket 2",
             "superposed", "plain run", "NLL", "ECE", "train FLOPs", "test FLOPs"}  # fmt: skip
    assert set(rows[0]) == known


def test_a_row_does_not_tell_the_default_of_an_option_that_does_nothing_in_its_runs(tmp_path, table):
    """The length of refinements tells two kinds of EDST apart, and says nothing of the dense network beside them."""
    for number, length in enumerate((9, 20)):
        write(tmp_path / str(number), PLAIN, sparse=True, edst=True, num_tickets=3, refine_epochs=length)
    write(tmp_path / "dense", {**PLAIN, "method": "dense", "density": 1.0})
    rows = {(row["method"], row["refine_epochs"]) for row in table(tmp_path)}
    assert rows == {("Dense", ""), ("RigL, EDST", "9"), ("RigL, EDST", "20")}


def test_seeds_of_runs_that_read_another_run_belong_together(tmp_path, table):
    for seed in (0, 1):
        write(tmp_path / f"a{seed}", {**PLAIN, "seed": seed}, rewind=f"runs/seed-{seed}")
        write(tmp_path / f"b{seed}", {**PLAIN, "seed": seed}, distill=[f"runs/seed-{seed}/ticket.safetensors"])
    assert [(row["method"], row["seeds"]) for row in table(tmp_path)] == [
        ("RigL + distillation", "2"), ("RigL, rewound (LTR)", "2")
    ]  # fmt: skip


def test_runs_with_one_normal_phase_are_said_to_share_it(tmp_path, table, capsys):
    for seed, start in enumerate(("runs/a", "runs/b", "runs/a")):
        write(tmp_path / str(seed), {**PLAIN, "seed": seed, "start_from": start}, start_from=start)
    run_command(main, tmp_path)
    noted = capsys.readouterr().err
    assert noted == f"note: {tmp_path}/2/summary.json shares its normal phase with another of RigL: runs/a\n"
    (row,) = table(tmp_path)
    assert row["seeds"] == "3"
    write(tmp_path / "4", PLAIN)
    assert [(row["start_from"], row["seeds"]) for row in table(tmp_path)] == [("True", "3"), ("", "1")]


def test_an_option_that_an_older_run_does_not_tell_is_as_by_default(tmp_path, table):
    write(tmp_path / "a", sup_tickets(0, 94.0), lr=0.1)
    write(tmp_path / "b", sup_tickets(1, 94.0), lr=0.1, width=1.0, cycle_lr="triangle", lr_drops=[0.5, 0.75], fge=False)
    assert [row["seeds"] for row in table(tmp_path)] == ["2"]
    write(tmp_path / "c", sup_tickets(2, 94.0), lr=0.1, cycle_lr="swa")
    assert [(row["cycle_lr"], row["seeds"]) for row in table(tmp_path)] == [("swa", "1"), ("triangle", "2")]


def test_tickets_superposed_in_another_way_are_a_row_of_their_own(tmp_path, table):
    again = {"superpose": "cima", "cima_beta": 0.9, "bn": "average", "greedy": False, "superposed": metrics(91.0)}
    for seed in (0, 1):
        folder = write(tmp_path / str(seed), sup_tickets(seed, 94.0), superpose="cia", bn="average") / "superpositions"
        folder.mkdir()
        (folder / "cima.json").write_text(json.dumps(again))
    cia, cima = table(tmp_path)
    assert [(row["superpose"], row["superposed"]) for row in (cia, cima)] == [
        ("cia", "94.00 ± 0.00"), ("cima", "91.00 ± 0.00")
    ]  # fmt: skip
    assert cia["ticket 1"] == cima["ticket 1"] == "91.50 ± 0.71" and cima["cima_beta"] == "0.9"


def test_older_runs_and_superpositions_averaged_without_pruning_between(tmp_path, table):
    """They do not say so; their rows are those of `--prune-average last`."""
    again = {"superpose": "cia", "cima_beta": None, "bn": "recompute", "greedy": False, "superposed": metrics(91.0)}
    for seed, options in enumerate(({}, {"prune_average": "last"}, {"prune_average": "every"})):
        folder = write(tmp_path / str(seed), sup_tickets(seed, 94.0), bn="average", **options) / "superpositions"
        folder.mkdir()
        (folder / "bn.json").write_text(json.dumps({**again, **options}))
    rows = [(row["prune_average"], row["bn"], row["seeds"]) for row in table(tmp_path)]
    assert sorted(rows) == [("every", "average", "1"), ("every", "recompute", "1"), ("last", "average", "2"),
                            ("last", "recompute", "2")]  # fmt: skip
