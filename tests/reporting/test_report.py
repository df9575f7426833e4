"""Tables from summaries: who belongs together, means and deviations, columns, files, and what is refused."""

import copy
import csv
import json
import math
from pathlib import Path

import pytest
import yaml
from PIL import Image

from utils.report import main

PLAIN = {
    "data": "cifar10", "model": "vgg16", "method": "rigl", "sup_tickets": False, "seed": 0, "epochs": 250,
    "density": 0.05, "maskable": 100, "nnz": 5, "nnz_per_layer": {"a": 5},
    "test": {"final": {"accuracy": 93.0, "nll": 0.25, "ece": 0.03}, "tickets": []},
    "flops": {"train_ratio": 0.21, "test_ratio": 0.22}, "images_per_second": 1.0, "train_seconds": 1.0,
}  # fmt: skip


def metrics(accuracy: float, nll: float = 0.5) -> dict[str, float]:
    return {"accuracy": accuracy, "nll": nll, "ece": 0.02}


def sup_tickets(seed: int, superposed: float, **other: object) -> dict[str, object]:
    test = {"normal": metrics(90.0 + seed), "tickets": [metrics(91.0 + seed), metrics(92.0 + seed)],
            "final": metrics(92.0 + seed), "superposed": metrics(superposed, nll=0.4)}  # fmt: skip
    return {**PLAIN, "sup_tickets": True, "seed": seed, "test": test, **other}


def write(folder: Path, summary: object, **args: object) -> Path:
    folder.mkdir(parents=True)
    (folder / "summary.json").write_text(json.dumps(summary))
    if args:
        (folder / "args.yaml").write_text(yaml.safe_dump(args))
    return folder


@pytest.fixture
def table(capsys):
    """Call it with a command line: returns the rows of the table, each {column: cell}."""

    def read(*argv: object) -> list[dict[str, str]]:
        main([str(word) for word in argv])
        printed, _, costs = capsys.readouterr().out.partition("\n\n")
        assert costs.startswith("FLOPs (")
        lines = [line.strip("| \n").split(" | ") for line in printed.splitlines()]
        header, rule, *rows = [[cell.strip() for cell in line] for line in lines]
        assert all(set(cell) == {"-"} for cell in rule)
        return [dict(zip(header, row, strict=True)) for row in rows]

    return read


@pytest.fixture
def refused(capsys):
    """Call it with a command line that is wrong: returns the one line on stderr."""

    def refuse(*argv: object) -> str:
        with pytest.raises(SystemExit) as stop:
            main([str(word) for word in argv])
        err = capsys.readouterr().err
        assert stop.value.code == 2 and err.endswith("\n") and err.count("\n") == 1
        return err

    return refuse


def test_seeds_become_mean_and_sample_deviation(tmp_path, table):
    for seed, accuracy in enumerate((93.0, 94.0, 96.5)):
        write(tmp_path / f"s{seed}", sup_tickets(seed, accuracy))
    (row,) = table(tmp_path)
    assert row == {
        "data": "cifar10", "model": "vgg16", "method": "RigL + Sup-tickets", "sparsity": "95 %", "epochs": "250",
        "seeds": "3", "normal phase": "91.00 ± 1.00", "ticket 1": "92.00 ± 1.00", "ticket 2": "93.00 ± 1.00",
        "superposed": "94.50 ± 1.80", "NLL": "0.400 ± 0.000", "ECE": "0.020 ± 0.000",  # of the superposed ticket
        "train FLOPs": "0.21×", "test FLOPs": "0.22×",
    }  # fmt: skip


def test_one_run_is_just_its_numbers(tmp_path, table):
    (row,) = table(write(tmp_path / "a", PLAIN))
    assert row["plain run"] == "93.00" and row["NLL"] == "0.250" and row["seeds"] == "1"
    assert not {"normal phase", "ticket 1", "superposed", "ensemble"} & set(row)  # nothing to show in these


def test_a_metric_that_an_older_run_does_not_have_is_blank(tmp_path, table):
    """Of the runs of a row all have it, or none: it would be the mean of other seeds than the row tells."""
    def run(seed: int, method: str, **more: float) -> None:
        test = {"final": {**metrics(93.0 + seed), **more}, "tickets": []}
        write(tmp_path / f"{method}{seed}", {**PLAIN, "seed": seed, "method": method, "test": test})

    for seed in (0, 1):
        run(seed, "set")
        run(seed, "rigl", brier=0.1 + 0.2 * seed)
        run(seed, "granet", **({"brier": 0.1} if seed else {}))
    cells = {row["method"]: (row["plain run"], row["ECE"], row["Brier"]) for row in table(tmp_path)}
    assert cells == {
        "SET": ("93.50 ± 0.71", "0.020 ± 0.000", ""),
        "RigL": ("93.50 ± 0.71", "0.020 ± 0.000", "0.200 ± 0.141"),
        "GraNet": ("93.50 ± 0.71", "0.020 ± 0.000", ""),
    }


def test_the_final_model_of_a_run_with_tickets_is_no_plain_result(tmp_path, table):
    write(tmp_path / "a", PLAIN)
    write(tmp_path / "b", sup_tickets(0, 94.0))
    plain, sup = table(tmp_path)
    assert (plain["method"], plain["plain run"], plain["superposed"]) == ("RigL", "93.00", "")
    assert (sup["method"], sup["plain run"], sup["superposed"]) == ("RigL + Sup-tickets", "", "94.00")


def test_an_ensemble_is_the_model_to_use_of_a_run_that_has_one(tmp_path, table):
    test = {"final": metrics(90.0), "tickets": [metrics(90.0)], "ensemble": metrics(95.0, nll=0.1)}
    (row,) = table(write(tmp_path / "a", {**PLAIN, "test": test}))
    assert row["ensemble"] == "95.00" and row["NLL"] == "0.100" and "plain run" not in row


def test_a_superposition_goes_before_the_ensemble_of_the_same_tickets(tmp_path, table):
    run = sup_tickets(0, 94.0)
    run["test"]["ensemble"] = metrics(95.0, nll=0.1)
    (row,) = table(write(tmp_path / "a", run))
    assert (row["superposed"], row["ensemble"], row["NLL"]) == ("94.00", "95.00", "0.400")


def test_groups_in_the_papers_order(tmp_path, table):
    runs = [
        {"method": "granet"}, {"method": "set"}, {"method": "set", "density": 0.1}, {"method": "static"},
        {"method": "dense", "density": 1.0}, {"method": "set", "epochs": 100}, {"data": "cifar100"},
    ]  # fmt: skip
    for number, run in enumerate(runs):
        write(tmp_path / str(number), {**PLAIN, **run})
    rows = table(tmp_path)
    assert [(row["data"], row["sparsity"], row["epochs"], row["method"]) for row in rows] == [
        ("cifar10", "0 %", "250", "Dense"), ("cifar10", "90 %", "250", "SET"), ("cifar10", "95 %", "100", "SET"),
        ("cifar10", "95 %", "250", "Static"), ("cifar10", "95 %", "250", "SET"), ("cifar10", "95 %", "250", "GraNet"),
        ("cifar100", "95 %", "250", "RigL"),
    ]  # fmt: skip


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
    main([str(tmp_path)])
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


def test_files(tmp_path, table):
    for seed, accuracy in enumerate((93.0, 94.0)):
        write(tmp_path / f"runs/s{seed}", sup_tickets(seed, accuracy))
        write(tmp_path / f"runs/hundred{seed}", {**PLAIN, "data": "cifar100", "seed": seed})
    names = {kind: tmp_path / f"table.{kind}" for kind in ("json", "csv", "png")}
    table(tmp_path / "runs", "--json", names["json"], "--csv", names["csv"], "--plot", names["png"])
    sup, plain = json.loads(names["json"].read_text())
    assert (sup["superposed"], sup["n"], sup["density"], sup["sup_tickets"]) == (93.5, 2, 0.05, True)
    assert sup["title"] == "RigL + Sup-tickets"
    assert sup["superposed std"] == pytest.approx(0.5**0.5) and sup["plain run"] is None
    assert plain["plain run"] == 93 and plain["train FLOPs"] == 0.21
    rows = list(csv.DictReader(names["csv"].open()))
    assert [list(row) for row in rows] == [list(sup)] * 2
    assert float(rows[0]["superposed"]) == 93.5 and rows[1]["superposed"] == ""
    picture = Image.open(names["png"])
    assert picture.width > 500 and len(picture.convert("RGB").getcolors(1 << 20)) > 20


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


def test_seeds_of_runs_that_read_another_run_belong_together(tmp_path, table):
    for seed in (0, 1):
        write(tmp_path / f"a{seed}", {**PLAIN, "seed": seed}, rewind=f"runs/seed-{seed}")
        write(tmp_path / f"b{seed}", {**PLAIN, "seed": seed}, distill=[f"runs/seed-{seed}/ticket.safetensors"])
    assert [(row["method"], row["seeds"]) for row in table(tmp_path)] == [
        ("RigL + distillation", "2"), ("RigL, rewound (LTR)", "2")
    ]  # fmt: skip


def test_an_option_that_an_older_run_does_not_tell_is_as_by_default(tmp_path, table):
    write(tmp_path / "a", sup_tickets(0, 94.0), lr=0.1)
    write(tmp_path / "b", sup_tickets(1, 94.0), lr=0.1, width=1.0, cycle_lr="triangle", lr_drops=[0.5, 0.75], fge=False)
    assert [row["seeds"] for row in table(tmp_path)] == ["2"]
    write(tmp_path / "c", sup_tickets(2, 94.0), lr=0.1, cycle_lr="swa")
    assert [(row["cycle_lr"], row["seeds"]) for row in table(tmp_path)] == [("swa", "1"), ("triangle", "2")]


def test_diversity_of_an_ensemble_and_not_its_members(tmp_path, table):
    members = [metrics(93.0), metrics(94.0)]
    test = {"tickets": members, "final": members[-1],
            "ensemble": {**metrics(95.0), "disagreement": 0.035, "kl": 0.0954}}  # fmt: skip
    folder = write(tmp_path / "a", {**PLAIN, "test": test}, ensemble=2)
    for number in (1, 2):
        write(folder / f"member-{number}", {**PLAIN, "seed": number - 1}, method="rigl")
    (row,) = table(tmp_path)
    assert (row["ticket 2"], row["ensemble"]) == ("94.00", "95.00")
    assert (row["disagreement"], row["KL"]) == ("0.035", "0.095")
    assert [row["method"] for row in table(folder / "member-2")] == ["RigL"]
    (folder / "summary.json").unlink()  # of what is not finished, the parts are runs
    assert [row["seeds"] for row in table(tmp_path)] == ["2"]


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


def test_significance(tmp_path, capsys):
    for seed in range(15):
        own = 1000 + seed
        write(tmp_path / f"plain{seed}", {**PLAIN, "seed": seed, "test": {"final": metrics(93 + seed / 10)}}, lr=0.1)
        write(tmp_path / f"sup{seed}", sup_tickets(own, 93.2 + seed / 10), lr=0.1, cycle_epochs=8)
        write(tmp_path / f"better{seed}", sup_tickets(own, 94.2 + seed / 10), lr=0.1, cycle_epochs=4)
        write(tmp_path / f"other{seed}", sup_tickets(own, 99), lr=0.2)  # than any without tickets
    for seed in (0, 1):  # the same network as one without, up to its first cycle: no sample of its own
        write(tmp_path / f"same{seed}", sup_tickets(seed, 99), lr=0.1, cycle_epochs=8)
        write(tmp_path / f"only{seed}", sup_tickets(seed, 99), lr=0.1, cycle_epochs=2)
    main([str(tmp_path), "--significance"])
    lines = capsys.readouterr().out.split("\n\n")[2].splitlines()
    header, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    same, *tests = [dict(zip(header, row, strict=True)) for row in rows]
    assert (same["cycle_epochs"], same["seeds"], same["p-value"]) == ("2", "15 and 0", "")
    assert same["significant"] == "same seeds"
    assert [(row["cycle_epochs"], row["seeds"], row["significant"]) for row in tests] == [
        ("4", "15 and 15", "yes"), ("8", "15 and 15", "no")
    ]  # fmt: skip
    # all but 3 of 15 without are below any with: D = 12/15, as far or farther apart in 2·C(30, 27) of C(30, 15) orders
    assert tests[0]["p-value"] == f"{2 * math.comb(30, 27) / math.comb(30, 15):.2e}"
    assert {row["method"] for row in tests} == {"RigL + Sup-tickets"}
    assert (tests[1]["without"], tests[1]["with"]) == ("93.70 ± 0.45", "93.90 ± 0.45")


@pytest.mark.parametrize(("runs", "p", "significant"), [(3, 2 / 35, "no"), (4, 2 / 70, "yes")])
def test_the_level_of_significance_is_5_percent(runs, p, significant, tmp_path, capsys):
    """All with Sup-tickets above all four without: as far apart in 2 of the C(4 + n, n) orders."""
    for seed in range(4):
        write(tmp_path / f"plain{seed}", {**PLAIN, "seed": seed, "test": {"final": metrics(90 + seed)}}, lr=0.1)
    for seed in range(runs):
        write(tmp_path / f"sup{seed}", sup_tickets(1000 + seed, 95.0 + seed), lr=0.1)
    main([str(tmp_path), "--significance"])
    last = capsys.readouterr().out.split("\n\n")[2].splitlines()[-1]
    assert [cell.strip() for cell in last.strip("|").split("|")][-2:] == [f"{p:.2e}", significant]


def lack(*keys: str) -> dict[str, object]:
    summary = copy.deepcopy(sup_tickets(0, 94.0))
    inner = summary
    for key in keys[:-1]:
        inner = inner[key]
    del inner[keys[-1]]
    return summary


@pytest.mark.parametrize(
    "keys",
    [("test",), ("flops",), ("density",), ("seed",), ("test", "superposed", "accuracy"), ("flops", "train_ratio")],
)
def test_a_summary_that_lacks_something(keys, tmp_path, refused):
    line = refused(write(tmp_path / "a", lack(*keys)))
    assert f"'{keys[-1]}' is missing" in line and str(tmp_path / "a") in line


@pytest.mark.parametrize("text", ["", "{", '{"data": "cif', "\x00", "[]", "3", '{"test": 5}'])
def test_a_damaged_summary(text, tmp_path, refused):
    write(tmp_path / "good", PLAIN)
    path = write(tmp_path / "bad", PLAIN) / "summary.json"
    path.write_text(text)
    assert str(path.parent) in refused(tmp_path)


@pytest.mark.parametrize("changes", [{"test": {"final": None}}, {"test": {"final": 3}}, {"density": "x"}, {"flops": 3}])
def test_a_summary_with_wrong_entries(changes, tmp_path, refused):
    assert "is not the folder of a finished run" in refused(write(tmp_path / "a", {**PLAIN, **changes}))


def test_damaged_options(tmp_path, refused):
    folder = write(tmp_path / "a", PLAIN)
    for text in ("a: [", "just words", "- 1"):
        (folder / "args.yaml").write_text(text)
        assert str(folder) in refused(folder)


def test_nothing_to_report(tmp_path, refused):
    assert "no finished run in" in refused(tmp_path)
    assert "no finished run in" in refused(tmp_path / "nowhere")
    assert "RUN" in refused()


def test_files_that_cannot_be_written(tmp_path, refused):
    folder = write(tmp_path / "a", PLAIN)
    for option, name in (("--json", "no/x.json"), ("--csv", "no/x.csv"), ("--plot", "no/x.png"), ("--plot", "x.what")):
        message = refused(folder, option, tmp_path / name)
        assert "cannot be written" in message or "cannot write" in message
