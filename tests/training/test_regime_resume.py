"""A run of any regime that is cut ends in the same bits."""

import shutil
from pathlib import Path

import pytest

from tests.outcomes import differences, outcome
from tests.tiny import main
from tests.training.regimes import (
    Runs,
    summary,
)

CUTS = {
    "edst": (9, 11, 16, 21),  # between phases; in the first refinement; in the second, after its exploration
    "fge": (8, 10, 11, 19),  # in a cycle; at its ticket, in the middle of an epoch; on the way up; at the second
    "snapshot": (8, 9),  # at a ticket in the middle of an epoch, and after it
    "pf": (8, 9, 11),  # just before and after pruning
    "distilled": (5,),
    "dsr": (5, 13),
    "snfs": (5, 13),
    "high variance": (12, 13),
    "fge cycles": (11, 13),
}


@pytest.mark.parametrize("name", CUTS)
def test_a_run_that_is_cut_ends_in_the_same_bits(name: str, finished: Runs, tmp_path: Path) -> None:
    options = finished.options(name)
    for step in CUTS[name]:
        assert main(tmp_path, *options, "--resume", "auto", stop=step)[0] == 143
    assert main(tmp_path, *options, "--resume", "auto")[0] == 0
    assert differences(outcome(finished(name)), outcome(tmp_path)) == []


@pytest.mark.parametrize("name", ["dst", "ltr"])
def test_an_ensemble_that_is_cut_in_both_networks_ends_in_the_same_bits(
    name: str, finished: Runs, tmp_path: Path
) -> None:
    options = finished.options(name)
    assert main(tmp_path, *options, stop=4)[0] == 143
    assert not (tmp_path / "member-2").exists()
    assert main(tmp_path, *options, "--resume", "auto", stop=4)[0] == 143  # the first goes on from there
    assert (tmp_path / "member-1/summary.json").exists() and not (tmp_path / "summary.json").exists()
    status, out, _ = main(tmp_path, *options, "--resume", "auto")
    assert status == 0 and out.count("resumed from") == 1
    for member in ("member-1", "member-2"):
        assert differences(outcome(finished(name) / member), outcome(tmp_path / member)) == []
    for part in ("test", "nnz_per_layer", "flops"):
        assert summary(tmp_path)[part] == summary(finished(name))[part]
    assert "nothing to resume" in main(tmp_path, *options, "--resume", "auto")[1]


def test_an_ensemble_that_is_being_replaced_is_not_finished(finished: Runs, tmp_path: Path) -> None:
    folder, options = tmp_path / "run", finished.options("dst")
    shutil.copytree(finished("dst"), folder)
    assert main(folder, *options, "--overwrite", stop=2)[0] == 143
    assert not (folder / "summary.json").exists()
    assert main(folder, *options, "--resume", "auto")[0] == 0
    assert summary(folder)["test"] == summary(finished("dst"))["test"]
