"""A greedy soup: the one by hand, by images that no ticket was trained on."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from sparselearning import Superposition
from tests.commands import run_command
from tests.superpose.runs import TEST, VALID, metrics, nnz, same, weights
from utils.run_folder.tickets import save_ticket
from utils.superpose import main
from utils.training.soups import Row, greedy


def by_hand(tickets: list[Tensor], alone: list[float], count: int, accuracy: Callable[[Tensor], float]) -> list[int]:
    """Which tickets Recipe 1 keeps, every superposition from scratch: the mean, and its `count` largest weights."""

    def superposed(chosen: list[int]) -> float:
        mean = torch.stack([tickets[i] for i in chosen]).mean(0)
        return accuracy(mean * (mean.abs() >= mean.abs().topk(count).values[-1]))

    first, *others = sorted(range(len(tickets)), key=lambda i: -alone[i])
    kept = [first]
    for i in others:
        if superposed([*kept, i]) >= superposed(kept):
            kept.append(i)
    return kept


@pytest.mark.parametrize("seed", range(20))
def test_a_greedy_soup_is_the_one_by_hand(seed):
    rng = torch.Generator().manual_seed(seed)
    goal = torch.randn(8, generator=rng)
    tickets = [goal + torch.randn(8, generator=rng) for _ in range(5)]

    def accuracy(weight: Tensor) -> float:
        return 100 - round((weight - goal).abs().sum().item())  # rounded, so that some are equal

    alone = [accuracy(ticket) for ticket in tickets]
    rows = [Row(str(i), {"valid_accuracy": value}) for i, value in enumerate(alone)]
    soup, kept = greedy(
        rows,
        Superposition(["w"], 5, prune="last"),
        lambda path: {"w": tickets[int(str(path))]},
        lambda trial: accuracy(trial.ticket()["w"]),
    )
    expected = by_hand(tickets, alone, 5, accuracy)
    assert [int(row.file) for row in kept] == expected
    assert [i for i, row in enumerate(rows) if row.numbers["kept"]] == sorted(expected)
    whole = Superposition(["w"], 5, prune="last")
    for i in expected:
        whole.add({"w": tickets[i]})
    assert same(soup.ticket(), whole.ticket())


@pytest.mark.parametrize("bn", ["average", "recompute"])
def test_a_greedy_soup_leaves_out_what_makes_it_worse_on_validation_images(bn, finished, superpose):
    run, other = finished("valid"), finished("other").ticket
    tickets = [*run.tickets, other]
    new = superpose("--tickets", *tickets, "--greedy", "--bn", bn, "--limit-test", TEST)
    rows = new.summary["tickets"]
    for path, row in zip(tickets, rows, strict=True):
        assert row["valid_accuracy"] == pytest.approx(metrics(load_file(path), "valid")["accuracy"])
        assert row["accuracy"] == pytest.approx(metrics(load_file(path), "test")["accuracy"])
    order = sorted(rows, key=lambda row: -row["valid_accuracy"])
    kept = [row for row in order if row["kept"]]
    assert 0 < len(kept) < 4 and order[0]["kept"] and {run.tickets[0].parent} >= {Path(r["file"]).parent for r in kept}
    assert new.header["tickets"].split() == [row["file"] for row in kept]
    assert new.header["prune_average"] == "last"
    best = 0.0
    for row in order:
        assert row["kept"] == (row["soup_accuracy"] >= best)
        best = max(best, row["soup_accuracy"])
    assert new.summary["superposed"]["valid_accuracy"] == best == metrics(new.ticket, "valid")["accuracy"]
    assert [line.split()[-1] for line in new.lines[1:5]] == [str(row["kept"]) for row in rows]
    assert f"{len(kept)} of 4 tickets" in new.lines[-1] and nnz(new.ticket, weights()) == kept[0]["nnz"]


def test_greedy_needs_images_that_no_ticket_was_trained_on(tmp_path, finished, refused):
    seen, held_out, both = finished("cia").tickets, finished("valid").tickets, []
    assert "train with --valid-fraction 0.1" in refused("--tickets", *seen, "--greedy")
    assert "train all with" in refused("--tickets", *seen, *held_out, "--greedy")
    assert "--valid-fraction 0.2 is not what" in refused("--tickets", *held_out, "--greedy", "--valid-fraction", 0.2)
    assert "--limit-train 200 is not what" in refused("--tickets", *held_out, "--greedy", "--limit-train", 200)
    for i, path in enumerate(held_out):
        both.append(tmp_path / f"{i}.safetensors")
        save_ticket(both[-1], load_file(path), {"data": "digits", "model": "small", "density": 0.3})
    assert "add their --valid-fraction" in refused("--tickets", *both, "--greedy")
    run_command(main, "--tickets", *both, "--greedy", "--valid-fraction", VALID, "--limit-train", 240)
