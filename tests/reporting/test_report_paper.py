"""The figures of the papers beside those of runs that are like theirs, and the table as LaTeX."""

import csv
import json
from pathlib import Path

import pytest

from tests.commands import run_command
from tests.launches import commands
from tests.launches import trained as trained_by
from tests.reporting.summaries import PLAIN, metrics, sup_tickets, write
from utils.command_line.options import CifarOptions, ImageNetOptions, Options, effective
from utils.command_line.parser import parse
from utils.report import main

RUN = "--sparse --method rigl --density 0.05"
SUP = f"{RUN} --sup-tickets"


def trained(folder: Path, words: str, recipe: type[Options] = CifarOptions, **summary: object) -> Path:
    """A run of this command line, as if it were finished."""
    return write_summary(folder, parse(recipe, "", words.split()), **summary)


def write_summary(folder: Path, options: Options, **summary: object) -> Path:
    about = {"data": options.data, "model": options.model, "method": options.method if options.sparse else "dense",
             "sup_tickets": options.sup_tickets, "seed": options.seed, "epochs": options.epochs,
             "density": options.density if options.sparse else 1.0}  # fmt: skip
    results = sup_tickets(0, 93.0)["test"] if options.sup_tickets else PLAIN["test"]
    return write(folder, {**PLAIN, "test": results, **about, **summary}, **effective(options))


@pytest.mark.parametrize(
    ("words", "where"),
    [
        ("", ""),
        ("--mixed-precision bf16 --compile --num-tickets 3 --save-tickets --seed 4", ""),
        ("--epochs 100 --cycle-epochs 3 --num-tickets 3", "; at 100 of 250 epochs"),
        ("--epochs 100 --cycle-epochs 4 --num-tickets 3", "; at 100 of 250 epochs"),
        ("--width 0.125 --limit-train 5000 --batch-size 64",
         "; --batch-size 64; --limit-train 5000; --width 0.125"),
        ("--update-frequency 1000", ""),  # which it would be without
        ("--update-frequency 500", "; --update-frequency 500"),
    ],
)  # fmt: skip
def test_a_run_like_the_papers_has_its_figure_and_what_differs(words: str, where: str, tmp_path: Path, table) -> None:
    (row,) = table(trained(tmp_path / "a", f"{SUP} {words}"), "--paper", "sup1")
    assert (row["superposed"], row["superposed, paper"]) == ("93.00", "93.20 ± 0.13")
    assert row["the paper's"] == f"Sup-tickets, Table 1{where}"


@pytest.mark.parametrize(
    "words",
    ["--cycle-epochs 4", "--num-tickets 2", "--lr 0.05", "--cycle-lr swa", "--superpose caa", "--bn recompute",
     "--explore-rate 0.3", "--prune-average last", "--epochs 100 --cycle-epochs 5 --num-tickets 3", "--density 0.03",
     "--method snfs", "--model resnet20", "--weight-decay 0.0001", "--sparse-init uniform"],
)  # fmt: skip
def test_a_run_of_another_regime_is_no_row_of_the_paper(words: str, tmp_path: Path, table) -> None:
    (row,) = table(trained(tmp_path / "a", f"{SUP} {words}"), "--paper", "sup1")
    assert row["the paper's"] == "no such row" and "superposed, paper" not in row


def test_a_run_without_options_is_compared_with_nothing(tmp_path: Path, table) -> None:
    (row,) = table(write(tmp_path / "a", PLAIN), "--paper", "all")
    assert row["the paper's"] == "no such row"


@pytest.mark.parametrize(
    ("name", "words", "figures"),
    [
        ("sup5", f"--data cifar100 {SUP} --cycle-epochs 2", {"superposed": "71.35 ± 0.14"}),
        ("sup8", f"--data cifar100 {SUP} --cycle-lr swa --lr-high 0.1",
         {"ticket 1": "68.68", "ticket 2": "69.29", "superposed": "31.74"}),
        ("sup10", f"--data cifar100 {SUP} --num-tickets 9 --epochs 298", {"superposed": "71.92 ± 0.07"}),
        ("sup15", f"{SUP} --bn recompute", {"superposed": "93.24 ± 0.11"}),
        ("sup20", RUN, {"plain run": "92.94 ± 0.20"}),
        ("sup6", "--model wrn28-10 --sparse --method set --density 0.2 --sup-tickets", {}),
        ("free6", "--model wrn28-10 --snapshot --num-tickets 12", {"train FLOPs": "0.80×", "test FLOPs": "12.00×"}),
    ],
)  # fmt: skip
def test_every_table_has_its_own_figures(name: str, words: str, figures, tmp_path: Path, table) -> None:
    (row,) = table(trained(tmp_path / "a", words), "--paper", name)
    assert {key.removesuffix(", paper"): cell for key, cell in row.items() if key.endswith(", paper")} == figures
    assert "Table" in row["the paper's"]


def test_imagenet_goes_by_several_names(tmp_path: Path, table) -> None:
    for i, data in enumerate(("ILSVRC/imagenet-1k", "imagenet", "Imagenette")):
        words = f"--sparse --method granet --density 0.1 --data {data} --batch-size 16 --seed {i}"
        trained(tmp_path / str(i), words, ImageNetOptions)
    said = {row["data"]: row["the paper's"] for row in table(tmp_path, "--paper", "sup3")}
    assert said.pop("Imagenette") == "no such row"
    assert {*said.values()} == {"Sup-tickets, Table 3"}


def test_of_several_lines_the_nearest_counts(tmp_path: Path, table) -> None:
    """Small-Dense is a dense network of another width, and has a line of its own."""
    trained(tmp_path / "a", "--width 0.34", ImageNetOptions)
    trained(tmp_path / "b", "--width 0.3", ImageNetOptions)
    rows = {row["width"]: (row["plain run, paper"], row["the paper's"]) for row in table(tmp_path, "--paper", "sup3")}
    assert rows == {
        "0.34": ("67.2 ± 0.12", "Sup-tickets, Table 3"),
        "0.3": ("76.8 ± 0.09", "Sup-tickets, Table 3; --width 0.3"),
    }


def test_what_a_table_has_and_no_run_is_said(tmp_path: Path, capsys) -> None:
    run_command(main, trained(tmp_path / "a", "--model wrn28-10"), "--paper", "free1")
    last = capsys.readouterr().out.rstrip().splitlines()
    assert "RigL, EDST (--num-tickets 7), 90 %" in last[-2] and "Dense, ensemble of 4" in last[-2]
    assert "Dense, 0 %" not in last[-2]
    assert last[-1] == "No figure here of: cAcc, cNLL, cECE, ensemble."


def test_all_tables_at_once(tmp_path: Path, table) -> None:
    run = sup_tickets(0, 93.0)["test"] | {"ensemble": metrics(93.5)}
    (row,) = table(trained(tmp_path / "a", SUP, test=run), "--paper", "all")
    assert (row["superposed, paper"], row["ensemble, paper"]) == ("93.20 ± 0.13", "93.25 ± 0.18")
    assert row["the paper's"] == "Sup-tickets, Table 1; Sup-tickets, Table 17"


def test_files_have_the_papers_figures_too(tmp_path: Path) -> None:
    run, sheet, data = trained(tmp_path / "a", SUP), tmp_path / "a.csv", tmp_path / "a.json"
    run_command(main, run, "--paper", "sup1", "--csv", sheet, "--json", data)
    with open(sheet, newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["superposed"], row["superposed paper"]) == ("93.0", "93.20 ± 0.13")
    assert row["paper"] == "Sup-tickets, Table 1"
    assert json.loads(data.read_text())[0]["superposed paper"] == "93.20 ± 0.13"


@pytest.mark.parametrize(
    "script",
    ["sup_table05_cycle_length.sh", "sup_table11_high_variance.sh", "sup_table21_swa.sh",
     "free_table3_resnet50_imagenet.sh", "free_table6_snapshot_fge.sh"],
)  # fmt: skip
def test_every_line_of_a_table_is_a_row_of_its_script(script: str, tmp_path: Path, table, capsys) -> None:
    *runs, report = commands(script, "--seeds", "0")
    for i, options in enumerate(trained_by(runs)):
        write_summary(tmp_path / str(i), options)
    name = report[report.index("--paper") + 1]
    assert all(row["the paper's"].count(";") == 0 for row in table(tmp_path, "--paper", name))
    run_command(main, tmp_path, "--paper", name)
    assert "No run here is like" not in capsys.readouterr().out


@pytest.mark.parametrize("name", ["sup16", "sup", "1", "free14", "ALL"])
def test_a_table_that_is_none_is_refused(name: str, tmp_path: Path, refused) -> None:
    line = refused(write(tmp_path / "a", PLAIN), "--paper", name)
    assert f"--paper {name} is none of the papers' tables" in line and "sup1, sup2" in line


def test_latex_is_the_table(tmp_path: Path) -> None:
    for seed in (0, 1):
        trained(tmp_path / str(seed), f"{RUN} --seed {seed} --limit-train 50", data="a_b&c")
    target = tmp_path / "table.tex"
    run_command(main, tmp_path, "--latex", target)
    lines = target.read_text().splitlines()
    assert lines[0] == r"% \usepackage{booktabs}" and lines[2].startswith(r"\begin{tabular}{lllr")
    assert (lines[3], lines[5], lines[7:]) == (r"\toprule", r"\midrule", [r"\bottomrule", r"\end{tabular}"])
    assert lines[4].split(" & ")[:4] == ["data", "model", "method", "sparsity"]
    cells = lines[6].removesuffix(r" \\").split(" & ")
    assert cells[0] == r"a\_b\&c" and r"95 \%" in cells and r"93.00 $\pm$ 0.00" in cells and r"0.22$\times$" in cells
    assert len(cells) == len(lines[4].split(" & "))
