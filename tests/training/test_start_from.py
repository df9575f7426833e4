"""A run that begins with the normal phase of another is the run that it would have been from its first step."""

import shutil
from pathlib import Path

import pytest

from sparselearning.tickets import read_header
from tests.outcomes import contents, differences, outcome
from tests.processes import launch
from tests.tiny import METHODS, SPARSE, SUP_TICKETS, main
from tests.training.distributed import RUN, Case, run_all, statuses
from tests.training.regimes import summary
from utils.run_folder.finished import read_options

OF = (*SPARSE, "--model", "tiny")
SUP = (*OF, *SUP_TICKETS, "--save-tickets")  # 4 normal epochs of 3 steps
ENDING = ("--sup-tickets", "--cycle-epochs", "2", "--num-tickets", "2", "--save-tickets")
NORMAL_END = "step-00000012"
# whose course is a matter of the length of the whole run, twice that of its normal phase
OF_WHOLE = ("--method", "granet", "--lr-parts", "run", "--lr-drops", "0.3", "0.4", "--warmup", "0.2",
            "--prune-end", "0.3")  # fmt: skip


def check_same(started: Path, straight: Path) -> None:
    """Every bit of two runs is the same, except that the summary of one says where it starts from."""
    found, expected = outcome(started), outcome(straight)
    found["summary.json"].pop("start_from")
    assert differences(found, expected) == []


@pytest.mark.parametrize("method", METHODS)
def test_with_the_same_ending_a_run_is_the_run_that_it_starts_from(method: str, tmp_path: Path) -> None:
    source, started, words = tmp_path / "source", tmp_path / "started", (*SUP, *METHODS[method])
    assert main(source, *words)[0] == 0
    before = contents(source)
    status, out, _ = main(started, *words, "--start-from", str(source))
    assert status == 0
    assert f"starting from {source}, at the end of its normal phase: step 12 of 24" in out
    check_same(started, source)
    assert contents(source) == before, "the other run stays as it is"


def test_a_plain_run_is_a_normal_phase(tmp_path: Path) -> None:
    assert main(tmp_path / "plain", *OF, *OF_WHOLE, "--epochs", "4", "--parts-of", "8")[0] == 0
    assert main(tmp_path / "straight", *SUP, *OF_WHOLE)[0] == 0
    assert main(tmp_path / "started", *OF, *OF_WHOLE, *ENDING, "--start-from", str(tmp_path / "plain"))[0] == 0
    check_same(tmp_path / "started", tmp_path / "straight")


def test_a_shorter_ending_leaves_the_normal_phase_as_it_was(tmp_path: Path) -> None:
    """Though milestones, warm-up and pruning are given in parts of the whole run, which is shorter now."""
    source, started, straight = (tmp_path / name for name in ("source", "started", "straight"))
    ending = ("--sup-tickets", "--cycle-epochs", "1", "--num-tickets", "3", "--save-tickets", "--bn", "recompute")
    assert main(source, *SUP, *OF_WHOLE)[0] == 0
    assert main(started, *OF, *OF_WHOLE, *ending, "--start-from", str(source))[0] == 0
    assert main(straight, *OF, *OF_WHOLE, *ending, "--epochs", "7", "--parts-of", "8")[0] == 0
    check_same(started, straight)
    assert summary(started)["epochs"] == 7
    assert summary(started)["test"]["normal"] == summary(source)["test"]["normal"]


def test_the_end_of_the_normal_phase_is_averaged_in_where_that_is_asked_for(tmp_path: Path) -> None:
    assert main(tmp_path / "source", *SUP)[0] == 0
    assert main(tmp_path / "straight", *SUP, "--include-normal")[0] == 0
    assert main(tmp_path / "started", *SUP, "--include-normal", "--start-from", str(tmp_path / "source"))[0] == 0
    check_same(tmp_path / "started", tmp_path / "straight")


def test_a_plain_continuation(tmp_path: Path) -> None:
    """At the last learning rate, connections moving as before."""
    assert main(tmp_path / "source", *SUP)[0] == 0
    assert main(tmp_path / "straight", *OF, "--epochs", "7", "--continue-epochs", "3")[0] == 0
    assert main(tmp_path / "started", *OF, "--continue-epochs", "3", "--start-from", str(tmp_path / "source"))[0] == 0
    check_same(tmp_path / "started", tmp_path / "straight")
    rows = outcome(tmp_path / "started")["state"]["history"]
    assert [row["phase"] for row in rows] == ["normal"] * 4 + ["continue"] * 3
    assert {row["lr"] for row in rows[4:]} == {rows[3]["lr"]}
    assert rows[-1]["grown"] > rows[3]["grown"]


def test_another_seed_is_that_of_the_ending(tmp_path: Path) -> None:
    source, started = tmp_path / "source", tmp_path / "started"
    assert main(source, *SUP)[0] == 0
    assert main(started, *SUP, "--seed", "1", "--start-from", str(source))[0] == 0
    one, other = summary(source), summary(started)
    assert (one["test"]["normal"], one["seed"], other["seed"]) == (other["test"]["normal"], 0, 1)
    assert differences(outcome(source)["tickets"], outcome(started)["tickets"])
    assert one["flops"]["train"] == other["flops"]["train"], "the cost is that of a whole run"


def test_a_run_that_was_started_is_resumed_and_started_from(tmp_path: Path) -> None:
    source, started, again = tmp_path / "source", tmp_path / "started", tmp_path / "again"
    assert main(source, *SUP, stop=14)[0] == 143, "it need not be finished"
    words = (*SUP, "--start-from", str(source), "--resume", "auto")
    for step in (13, 18, 23):  # before the exploration has trained, between cycles, in the last
        assert main(started, *words, stop=step)[0] == 143
    status, out, _ = main(started, *words)
    assert status == 0 and "resumed from" in out and "starting from" not in out
    assert main(source, *SUP, "--resume", "auto")[0] == 0
    assert main(again, *SUP, "--start-from", str(started))[0] == 0
    for run in (started, again):
        check_same(run, source)


def test_two_processes_start_from_what_two_processes_trained(tmp_path: Path) -> None:
    source, started = tmp_path / "source", tmp_path / "started"
    cases = [Case(source, RUN), Case(started, (*RUN, "--start-from", str(source)))]
    assert launch(2, run_all, cases) == [0, 0]
    assert [statuses(case.folder, 2) for case in cases] == [[0, 0], [0, 0]]
    check_same(started, source)


def test_the_end_of_the_normal_phase_is_kept(tmp_path: Path) -> None:
    assert main(tmp_path / "run", *SUP)[0] == 0
    kept = sorted(path.name for path in (tmp_path / "run/checkpoints").iterdir())
    assert kept == [NORMAL_END, "step-00000018", "step-00000024"]
    assert main(tmp_path / "plain", *OF, "--epochs", "4", "--checkpoint-minutes", "1e-9")[0] == 0
    kept = sorted(path.name for path in (tmp_path / "plain/checkpoints").iterdir())
    assert kept == ["step-00000011", NORMAL_END]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--density", "0.3"), "is from a run with density 0.2, not 0.3: repeat its options"),
        (("--method", "set"), "is from a run with method rigl, not set"),
        (("--lr", "0.1"), "is from a run with lr 0.2, not 0.1"),
        (("--lr-drops", "0.5"), "is from a run with lr_drops [0.5, 0.75], not [0.5]"),
        (("--model", "norm"), "is from a run with model tiny, not norm"),
        (("--batch-size", "8"), "is from a run with whole_batch_size 16, not 8"),
        (("--limit-train", "30"), "is from a run with limit_train"),
        (("--update-frequency", "3"), "is from a run with update_frequency 2, not 3"),
        (("--prune-rate", "0.3"), "is from a run with prune_rate 0.5, not 0.3"),
    ],
)
def test_a_run_with_another_normal_phase_is_refused(words: tuple[str, ...], says: str, tmp_path: Path) -> None:
    source, folder = tmp_path / "source", tmp_path / "run"
    assert main(source, *SUP)[0] == 0
    for more in ((), ("--dry-run",)):
        status, _, err = main(folder, *OF, *words, *ENDING, "--start-from", str(source), *more)
        assert status == 2 and says in err and err.count("\n") == 1
        assert not folder.exists()


def test_a_run_without_a_checkpoint_of_that_step_is_refused(tmp_path: Path) -> None:
    source, folder = tmp_path / "source", tmp_path / "run"
    assert main(source, *SUP, stop=5)[0] == 143
    words = (*SUP, "--start-from", str(source))
    status, _, err = main(folder, *words)
    assert status == 2 and f"has no checkpoints/{NORMAL_END}" in err and err.count("\n") == 1
    shutil.rmtree(source / "checkpoints")
    status, _, err = main(folder, *words)
    assert status == 2 and f"has no checkpoints/{NORMAL_END}" in err and err.count("\n") == 1
    assert not folder.exists()


def test_a_damaged_checkpoint_is_no_start(tmp_path: Path) -> None:
    source, folder = tmp_path / "source", tmp_path / "run"
    assert main(source, *SUP)[0] == 0
    with open(source / "checkpoints" / NORMAL_END / "state.pt", "ab") as file:
        file.write(b"x")
    status, _, err = main(folder, *SUP, "--start-from", str(source))
    assert status == 2 and "is damaged" in err and err.count("\n") == 1 and not folder.exists()


def test_a_run_does_not_replace_what_it_starts_from(tmp_path: Path) -> None:
    assert main(tmp_path, *SUP)[0] == 0
    before = contents(tmp_path)
    status, _, err = main(tmp_path, *SUP, "--start-from", str(tmp_path), "--overwrite")
    assert status == 2 and "is the folder of this run itself" in err and contents(tmp_path) == before


def test_a_run_records_what_it_starts_from(tmp_path: Path) -> None:
    source, started = tmp_path / "source", tmp_path / "started"
    assert main(source, *SUP)[0] == 0
    assert main(started, *OF, *ENDING, "--start-from", str(source))[0] == 0
    recorded = read_options(started)
    assert (recorded["start_from"], recorded["epochs"], recorded["num_tickets"]) == (str(source), 8, 2)
    assert read_header(started / "ticket.safetensors")["start_from"] == str(source)
