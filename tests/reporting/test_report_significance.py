"""Is a method with Sup-tickets another than without? Sup-tickets, Table 20, by numbers that can be counted."""

import math

import pytest

from tests.commands import run_command
from tests.reporting.summaries import PLAIN, metrics, sup_tickets, write
from utils.report import main


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
    run_command(main, tmp_path, "--significance")
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
    run_command(main, tmp_path, "--significance")
    last = capsys.readouterr().out.split("\n\n")[2].splitlines()[-1]
    assert [cell.strip() for cell in last.strip("|").split("|")][-2:] == [f"{p:.2e}", significant]
