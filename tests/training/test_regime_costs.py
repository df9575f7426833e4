"""What a run of each regime costs, by hand."""

from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file

from tests.training.regimes import ENSEMBLES, EPOCH, Runs, share, summary, tickets_of


def rigl(f: float, every: int = 2) -> float:
    return (3 * f * every + 2 * f + 1) / (every + 1) / 3


@pytest.mark.parametrize(
    ("name", "training", "passes"),
    [
        ("edst", rigl, 3),
        ("snapshot", lambda f: 1, 2),
        ("fge", lambda f: 1, 2),
        ("dense ensemble", lambda f: 2, 2),
        ("ltr", None, 2),
        ("swa 2", lambda f: f, 1),
        ("distilled", None, 1),
    ],
)
def test_costs_by_hand(name: str, training: Callable[[float], float] | None, passes: int, finished: Runs) -> None:
    folder = finished(name)
    paths = tickets_of(folder) or [folder / "ticket.safetensors"]
    f = share(load_file(paths[0]))  # in these regimes a layer keeps its number of connections
    if training is not None:
        expected = training(f)
    elif name == "ltr":  # with the 6 epochs of the run that both of 3 epochs rewind
        expected = 2 * f + 6 / 3 * summary(finished("gmp"))["flops"]["train_ratio"]
    else:  # with the forward passes of the teachers
        expected = f + sum(share(load_file(Path(path))) for path in finished.teachers()) / 3
    flops = summary(folder)["flops"]
    assert flops["train_ratio"] == pytest.approx(expected, rel=1e-6)
    if passes > 1:
        f = sum(share(load_file(path)) for path in paths) / len(paths)
    elif name == "swa 2":
        f = share(load_file(folder / "ticket.safetensors"))
    assert flops["test_ratio"] == pytest.approx(passes * f, rel=1e-6)


@pytest.mark.parametrize(("name", "parts", "whole"), [("pf", 3, 6), ("swa 1", 3, 6)])
def test_pruning_once_costs_a_dense_training_and_a_sparse_one(
    name: str, parts: int, whole: int, finished: Runs
) -> None:
    """FreeTickets, Table 1: 3.75x of 250 epochs for 3 networks is 1 + f each; Sup-tickets, Table 21: 0.90 + 0.10·f."""
    folder = finished(name)
    f = share(load_file(sorted([*folder.glob("tickets/ticket-1*"), folder / "ticket.safetensors"])[-1]))
    found = summary(folder)["flops"]["train_ratio"]
    assert found == pytest.approx((parts + 3 * f) / whole, abs=1.01 * (1 - f) / (whole * EPOCH))  # a step more or less


def test_an_ensemble_costs_what_its_networks_cost(finished: Runs) -> None:
    for name in ENSEMBLES:
        whole, parts = summary(finished(name)), [summary(p) for p in sorted(finished(name).glob("member-*"))]
        assert whole["ensemble"] == len(parts) == 2
        again = summary(finished("gmp"))["flops"]["train"] if name == "ltr" else 0.0  # rewound by both, trained once
        for key, twice in (("train", again), ("test_ratio", 0), ("test_ratio_rigl", 0)):
            assert whole["flops"][key] == pytest.approx(sum(part["flops"][key] for part in parts) - twice)
        assert whole["flops"]["rewound"] == again and whole["flops"]["dense_epoch"] == parts[0]["flops"]["dense_epoch"]
        assert whole["train_seconds"] == pytest.approx(sum(part["train_seconds"] for part in parts))
