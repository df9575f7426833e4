"""What summary.json says of the FLOPs of a training: in all, and of a dense one that is as long whatever the regime."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from models import build
from sparselearning.distributions import erk
from sparselearning.flops import layer_costs
from sparselearning.layers import maskable_weights
from tests.tiny import Tiny, main
from tests.training.regimes import DENSE, MACS, NNZ, OF, Runs, share, summary
from utils.command_line.options import CifarOptions
from utils.command_line.parser import parse
from utils.training.costs import Costs

FORWARD = 2 * sum(MACS.values())  # FLOPs of an image through the dense network
IMAGES = 44


def test_edst_of_the_same_length_costs_the_same_for_any_number_of_tickets(tmp_path: Path) -> None:
    costs = []
    for tickets in (2, 3, 6):
        folder = tmp_path / str(tickets)
        words = ("--edst", "--epochs", "8", "--num-tickets", str(tickets), "--method", "set")
        assert main(folder, *OF, *words)[0] == 0
        costs.append(summary(folder)["flops"])
    f = share(load_file(folder / "ticket.safetensors"))
    for flops in costs:
        assert flops["train"] == pytest.approx(8 * 3 * IMAGES * FORWARD * f)
        assert flops["train_ratio"] == pytest.approx(f)


def test_a_dense_training_by_hand(tmp_path: Path) -> None:
    assert main(tmp_path, *DENSE, "--epochs", "2")[0] == 0
    said = summary(tmp_path)
    assert said["flops"]["dense_epoch"] == pytest.approx(3 * IMAGES * FORWARD)
    assert said["flops"]["train"] == pytest.approx(2 * 3 * IMAGES * FORWARD)
    assert said["flops_per_layer"] == {name: 2 * macs for name, macs in MACS.items()}
    assert sum(said["weights_per_layer"].values()) == said["maskable"]


def test_both_countings_are_kept_from_the_first_step_to_the_last(tmp_path: Path) -> None:
    """A RigL run that is cut: (3 f ΔT + 2 f + 1) / (ΔT + 1) with the f of either counting."""
    words = (*OF, "--epochs", "4", "--resume", "auto")
    assert main(tmp_path, *words, stop=5)[0] == 143
    assert main(tmp_path, *words)[0] == 0
    said, layers = summary(tmp_path), layer_costs(Tiny(10), (3, 32, 32))
    kept = {name: said["nnz_per_layer"][name] / said["weights_per_layer"][name] for name in layers}
    assert sum(said["nnz_per_layer"].values()) == NNZ
    for counting, end in (("plain", ""), ("rigl", "_rigl")):
        sparse = sum(cost.flops(kept[name], counting) for name, cost in layers.items())
        dense = sum(cost.flops(1.0, counting) for cost in layers.values())
        step = (3 * sparse * 2 + 2 * sparse + dense) / 3
        assert said["flops"][f"train{end}"] == pytest.approx(4 * IMAGES * step)
        assert said["flops"][f"dense_epoch{end}"] == pytest.approx(3 * IMAGES * dense)
    assert said["flops"]["train_ratio"] < said["flops"]["train_ratio_rigl"]


def test_a_rewound_run_counts_the_run_that_it_rewinds(finished: Runs, tmp_path: Path) -> None:
    words = ("--method", "static", "--epochs", "3", "--rewind", str(finished("gmp")))
    assert main(tmp_path, *OF, *words)[0] == 0
    before, flops = summary(finished("gmp"))["flops"], summary(tmp_path)["flops"]
    f = share(load_file(tmp_path / "ticket.safetensors"))
    assert flops["rewound"] == pytest.approx(before["train"]) and before["rewound"] == 0
    assert flops["train"] == pytest.approx(before["train"] + 3 * 3 * IMAGES * FORWARD * f)
    assert flops["train_ratio"] == pytest.approx(flops["train"] / (3 * flops["dense_epoch"]))


def test_a_run_whose_cost_cannot_be_read_is_no_run_to_rewind(finished: Runs, tmp_path: Path) -> None:
    broken = tmp_path / "gmp"
    broken.mkdir()
    for name in ("ticket.safetensors", "early.safetensors"):
        (broken / name).write_bytes((finished("gmp") / name).read_bytes())
    for text in (None, "{}", '{"flops": 3, "epochs": 6}'):
        if text is not None:
            (broken / "summary.json").write_text(text)
        status, _, err = main(tmp_path / "run", *OF, "--method", "static", "--rewind", str(broken))
        assert status == 2 and str(broken) in err and err.count("\n") == 1


@pytest.mark.parametrize(
    ("growth", "tracked", "cost"),
    [
        (None, False, lambda f: f),
        ("random", False, lambda f: f),
        ("gradient", False, lambda f: (3 * 7 * f + 2 * f + 1) / (3 * 8)),  # ΔT = 7
        ("momentum", True, lambda f: (2 * f + 1) / 3),
        ("random", True, lambda f: (2 * f + 1) / 3),  # shared out by momentum
        (None, True, lambda f: (2 * f + 1) / 3),  # for explorations to come
    ],
)
def test_each_step_costs_what_its_connections_and_their_score_cost(
    growth: str | None, tracked: bool, cost: Callable[[float], float]
) -> None:
    model = Tiny(10)
    weights = {name: model.get_parameter(name) for name in MACS}
    masking: Any = SimpleNamespace(weights=weights, growth=growth, update_frequency=7,
                                   dense_momentum=dict.fromkeys(MACS) if tracked else {})  # fmt: skip
    costs, expected = Costs(model, masking, (3, 32, 32)), 0.0
    for parts in ((1.0, 1.0, 1.0), (0.5, 0.25, 0.5), (0.5, 0.25, 0.5), (0.25, 0.125, 0.1)):  # of a pruned network
        masking.active = {name: round(part * weights[name].numel()) for part, name in zip(parts, MACS, strict=True)}
        macs = [masking.active[name] / weights[name].numel() * MACS[name] for name in MACS]
        costs.add_step()
        expected += cost(sum(macs) / sum(MACS.values()))
        assert costs.steps["plain"] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("words", "density", "training", "inference"),
    [
        ("--sparse --edst", 0.2, 0.61, 1.01),
        ("--sparse --edst --num-tickets 7", 0.1, 0.57, 1.17),
        ("--sparse --ensemble 3", 0.2, 1.01, 1.01),
        ("--sparse --method static --ensemble 3", 0.2, 1.01, 1.01),
    ],
)
def test_costs_are_those_of_freetickets_tables_1_and_6(
    words: str, density: float, training: float, inference: float
) -> None:
    """Wide ResNet28-10 on CIFAR-100 with ERK, of a dense training of 250 epochs."""
    args = parse(CifarOptions, "", f"{words} --density {density}".split())
    with torch.device("meta"):
        model = build("wrn28-10", 100)
    weights = maskable_weights(model)
    active = erk({name: weight.shape for name, weight in weights.items()}, density)
    growth = None if args.method == "static" else "gradient"
    masking: Any = SimpleNamespace(
        active=active, weights=weights, growth=growth, dense_momentum={}, update_frequency=1000
    )
    costs = Costs(model, masking, (3, 32, 32))
    costs.add_step()
    networks = args.ensemble or args.num_tickets
    assert (args.ensemble or 1) * costs.steps["plain"] * args.epochs / 250 == pytest.approx(training, abs=0.006)
    assert networks * costs.test_ratio() == pytest.approx(inference, abs=0.007)
