"""The scripts of launch/ at work, on a few digits: rows that share runs, side by side, that fail, and that are cut."""

import csv
import json
from functools import partial
from pathlib import Path

import pytest

from tests.launches import LAUNCH, bash, forked_programs

TINY = ("--data", "digits", "--model", "resnet20", "--limit-train", "16", "--limit-test", "20", "--batch-size", "8",
        "--seeds", "0")  # fmt: skip


@pytest.fixture(scope="module")
def started(tmp_path_factory):
    """Call it with a script and its options: returns what it says."""
    with forked_programs(tmp_path_factory.mktemp("programs")) as environment:
        yield partial(bash, **environment)


def script(path: Path, *rows: str) -> Path:
    """A table of its own."""
    path.write_text("\n".join([f'source "{LAUNCH}/table.sh" 250 "$@"', *rows, "report\n"]))
    return path


def table_of(path: Path) -> list[dict[str, str]]:
    return sorted(csv.DictReader(path.open()), key=lambda row: (row["method"], row.get("superpose", "")))


def test_a_table_and_another_one_that_shares_its_rows(tmp_path, started):
    """The runs of the first are side by side."""
    out, words = tmp_path / "out", [*TINY, "--epochs", "10", "--output-dir", tmp_path / "out", "--jobs", "2"]
    said = started(LAUNCH / "sup_table08_large_restarts.sh", *words)
    assert "| RigL + Sup-tickets | 95 %" in said and said.count("started ") == said.count("finished ") == 2
    first, second = table_of(out / "sup_table08_large_restarts.csv")
    assert {first["cycle_lr"], second["cycle_lr"]} == {"triangle", "swa"} and first["n"] == "1"

    other = script(tmp_path / "other.sh", "cifar cifar10 vgg16 $(sparse rigl 0.05) $(sup 8 3)",
                   "superposed --superpose caa")  # fmt: skip
    said = started(other, *words)
    assert "kept " in said and "started " not in said and (out / "other.png").exists()
    caa, cia = table_of(out / "other.csv")
    assert (caa["superpose"], cia["superpose"]) == ("caa", "cia") and caa["ticket 3"] == cia["ticket 3"]


def test_a_run_that_fails_leaves_the_others_and_the_table(tmp_path, started):
    rows = "cifar cifar10 vgg16", "cifar cifar10 vgg16 $(sparse rigl 2) $(sup 8 3)", "superposed --superpose caa"
    words = [script(tmp_path / "some.sh", *rows), *TINY, "--epochs", "4", "--output-dir", tmp_path, "--jobs", "2"]
    said = started(*words, status=1)
    failed, finished = tmp_path / "digits-resnet20-rigl-2-sup-3x1/seed-0", tmp_path / "digits-resnet20-dense/seed-0"
    assert f"failed    {failed} with status 2: main_cifar.py: --density 2" in said
    assert f"finished  {finished}: normal: test accuracy" in said and (finished / "summary.json").exists()
    (row,) = table_of(tmp_path / "some.csv")
    assert row["method"] == "dense"


def test_runs_are_cut_when_the_time_is_over_and_can_be_resumed(tmp_path, started):
    words = [*TINY, "--epochs", "100000", "--output-dir", tmp_path, "--minutes", "0.1", "--jobs", "2"]
    rows = "cifar cifar10 vgg16", "cifar cifar10 vgg16 $(sparse set 0.1)", "cifar cifar10 vgg16 $(sparse set 0.2)"
    said = started(script(tmp_path / "some.sh", *rows), *words, status=1)
    cut = [f"to resume {tmp_path}/digits-resnet20-{row}/seed-0" for row in ("dense", "set-0.1")]
    assert "the time is over" in said and all(line in said for line in cut) and "nothing to report" in said
    assert said.count("started ") == 2 and not (tmp_path / "digits-resnet20-set-0.2").exists()


def test_a_batch_of_runs_is_measured_planned_and_reported(tmp_path, started):
    words = [*TINY, "--epochs", "10", "--output-dir", tmp_path, "--minutes", "20", "--runs", "2"]
    said = started(LAUNCH / "gpu_batch.sh", *words, "--mixed-precision", "no")
    rates = json.loads((tmp_path / "parallel.json").read_text())["parallel"]
    assert rates["plain"].keys() <= {"1", "2"} and min(rates["plain"].values()) > 0
    assert "10 epochs of 16 images" in said
    plain, sup = table_of(tmp_path / "gpu_batch.csv")
    assert plain["method"] == "granet" and sup["method"] == "granet"
    assert (tmp_path / "digits-resnet20-granet-0.05/seed-0/summary.json").exists()
    assert (tmp_path / "digits-resnet20-granet-0.05-sup-3x1/seed-1000/summary.json").exists()


@pytest.mark.parametrize("option", ["--jobs 0", "--jobs many", "--minutes -3", "--minutes soon"])
def test_a_number_that_is_none_is_named(option):
    said = bash(LAUNCH / "sup_table08_large_restarts.sh", *option.split(), status=2)
    assert said == ""
