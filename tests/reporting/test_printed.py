"""What a run prints of itself: the numbers of each model under their titles, and what remains of its time."""

from pathlib import Path
from unittest import mock

from sparselearning.phases import Phase
from utils.reporting.summary import closing_table, plan_table
from utils.reporting.tracking import COLUMNS, Tracker

FLOPS = {"train": 2.5e15, "train_ratio": 0.25, "test_ratio": 0.125}


def metrics(accuracy: float) -> dict[str, float]:
    return {"accuracy": accuracy, "nll": accuracy / 100, "ece": accuracy / 1000, "brier": accuracy / 500}


def rows(table: str) -> dict[str, list[str]]:
    """{title: words} of the lines with metrics."""
    lines = [line.split("  ", 1) for line in table.splitlines() if "%" in line]
    return {title: numbers.split() for title, numbers in lines}


def printed(accuracy: float) -> list[str]:
    return [f"{accuracy:.2f}", "%", f"{accuracy / 100:.3f}", f"{accuracy / 1000:.3f}", f"{accuracy / 500:.3f}"]


def test_every_model_stands_under_its_own_name() -> None:
    test = {"normal": metrics(60), "tickets": [metrics(61), metrics(62)], "superposed": metrics(63),
            "ensemble": metrics(64), "final": metrics(62)}  # fmt: skip
    summary = {"test": test, "nnz": 1234, "maskable": 12340, "flops": FLOPS, "train_seconds": 90.0,
               "images_per_second": 1500.4}  # fmt: skip
    table = closing_table(summary)
    assert rows(table) == {
        "end of normal phase": printed(60), "ticket 1": printed(61), "ticket 2": printed(62),
        "superposed": printed(63), "ensemble": printed(64),
    }  # fmt: skip
    assert table.split("\n")[0].split() == ["model", "accuracy", "↑", "NLL", "↓", "ECE", "↓", "Brier", "↓"]
    last = table.splitlines()[-1]
    for word in ("1,234 of 12,340 weights", "density 0.1000", "0.25x", "inference 0.12x", "1.5 min", "1,500 images/s"):
        assert word in last
    summary["test"] = {"tickets": [], "final": metrics(70)}
    assert rows(closing_table(summary)) == {"final": printed(70)}


def test_a_plan_tells_the_first_the_largest_and_the_last_learning_rate_of_each_phase() -> None:
    rates = [0.25, 0.5, 0.75, 0.0625]
    plan = [Phase("normal", 0, 6, lambda step: 1.0), Phase("cycle 1", 6, 10, rates.__getitem__, ticket=True)]
    _, normal, cycle = plan_table(plan, 4, None).splitlines()
    assert normal.split() == ["normal", "0–1.5", "0–6", "1", "1", "1", "dense"]
    assert cycle.replace(",", "").split()[:7] == ["cycle", "1", "1.5–2.5", "6–10", "0.25", "0.75", "0.0625"]
    assert cycle.endswith("ends in a ticket") and "ticket" not in normal


def test_the_time_that_is_left_is_told_from_the_steps_since_the_run_went_on(tmp_path: Path, capsys) -> None:
    """30 of 100 steps were done before; 20 more took 40 s, so that 50 will take 100 s."""
    with mock.patch("time.monotonic", return_value=1000.0) as clock:
        tracker = Tracker(tmp_path, 10, 100, 30, True)
        clock.return_value = 1040.0
        row = {**dict.fromkeys(COLUMNS, 0.5), "epoch": 5, "step": 50, "phase": "normal", "valid_accuracy": None}
        tracker.epoch([row], {}, 0.0)
        tracker.close()
    assert "1:40 left" in capsys.readouterr().out
