"""Summaries that are damaged or lack something, and files that cannot be written, are refused in one line."""

import copy
import json

import pytest

from tests.reporting.summaries import PLAIN, sup_tickets, write


def lack(*keys: str) -> dict[str, object]:
    summary = copy.deepcopy(sup_tickets(0, 94.0))
    inner = summary
    for key in keys[:-1]:
        inner = inner[key]
    del inner[keys[-1]]
    return summary


@pytest.mark.parametrize(
    "keys",
    [("test",), ("flops",), ("density",), ("seed",), ("test", "final"), ("test", "superposed", "accuracy"),
     ("flops", "train_ratio")],
)  # fmt: skip
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


@pytest.mark.parametrize("changes", [{"bn": None}, {"superposed": 3}, {"superposed": {"nll": 1.0}}, {"greedy": "no"}])
def test_a_damaged_superposition(changes, tmp_path, refused):
    folder = write(tmp_path / "a", sup_tickets(0, 94.0), bn="average") / "superpositions"
    folder.mkdir()
    again = {"superpose": "cia", "bn": "average", "greedy": False, "superposed": {"accuracy": 91.0, "file": "x"}}
    (folder / "again.json").write_text(json.dumps({**again, **changes}))
    assert str(tmp_path / "a") in refused(tmp_path)


def test_damaged_options(tmp_path, refused):
    folder = write(tmp_path / "a", PLAIN)
    for text in ("a: [", "just words", "- 1", "lr: {a: 1}", "1: 2", "seed: 2020-01-01"):
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
        assert ("is no kind of picture" if name == "x.what" else "cannot be written") in message
