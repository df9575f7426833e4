"""Tables from summaries: means and deviations, columns, the order of the rows, and the table as files."""

import csv
import json

import pytest
from PIL import Image

from tests.reporting.summaries import PLAIN, metrics, sup_tickets, write


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
