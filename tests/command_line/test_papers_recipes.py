"""Without an option a run is the papers' own: Sup-tickets, Appendix D, FreeTickets, Appendix C and Table 6."""

from typing import Any

import pytest

from utils.command_line.options import CifarOptions, ImageNetOptions
from utils.command_line.parser import parse
from utils.training.plan import make_plan

BOTH: dict[str, Any] = {
    "lr": 0.1, "momentum": 0.9, "batch_size": 128, "gradient_accumulation_steps": 1, "clip_grad_norm": None,
    "scale_lr": False, "valid_fraction": 0.0, "limit_train": None, "limit_test": None, "seed": 0, "width": 1.0,
    "temperature": 1.0, "sparse": False, "method": "rigl", "density": 0.05, "sparse_init": None, "growth": None,
    "prune_rate": 0.5, "init_density": None, "update_frequency": None, "explore_rate": 0.5, "cycle_lr": "triangle",
    "superpose": "cia", "cima_beta": 0.8, "bn": "average", "include_normal": False, "global_explore_rate": 0.8,
    "prune_average": "every",
    "fine_tune_epochs": None, "fine_tune_lr": 0.001, "num_tickets": None,
}  # fmt: skip
PAPERS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "CIFAR": (CifarOptions, {
        "data": "cifar10", "model": "vgg16", "epochs": 250, "lr_drops": (0.5, 0.75), "lr_parts": "normal",
        "warmup": 0.0, "weight_decay": 5e-4, "norm_weight_decay": None, "label_smoothing": 0.0, "update_limit": 1000,
        "prune_rate_decay": "constant", "prune_end": 110 / 250, "cycle_epochs": 8, "ticket_fraction": None,
        "lr_low": 0.001, "lr_high": 0.005, "exploration_epochs": 150, "refine_epochs": 100,
    }),
    "ImageNet": (ImageNetOptions, {
        "model": "resnet50", "epochs": 100, "lr_drops": (0.3, 0.6, 0.85), "lr_parts": "run", "warmup": 0.05,
        "weight_decay": 1e-4, "norm_weight_decay": 0.0, "label_smoothing": 0.1, "update_limit": 4000,
        "prune_rate_decay": "cosine", "prune_end": 30 / 100, "cycle_epochs": 2, "ticket_fraction": 0.08,
        "lr_low": 1e-4, "lr_high": 5e-4, "exploration_epochs": 30, "refine_epochs": 70, "image_size": 224,
    }),
}  # fmt: skip


@pytest.mark.parametrize("name", PAPERS)
def test_the_defaults_are_the_papers_recipe(name: str) -> None:
    recipe, own = PAPERS[name]
    args = vars(parse(recipe, "", ()))
    assert {option: args[option] for option in {**BOTH, **own}} == {**BOTH, **own}


@pytest.mark.parametrize(
    ("words", "changes"),
    [
        ("--sparse --edst", {"epochs": 450, "num_tickets": 3, "save_tickets": True}),
        ("--snapshot", {"epochs": 200, "num_tickets": 12, "save_tickets": True}),
        ("--fge", {"epochs": 200, "num_tickets": 5, "cycle_epochs": 4, "lr_low": 5e-4, "lr_high": 0.05}),
    ],
)
def test_other_phases_change_what_their_papers_change(words: str, changes: dict[str, Any]) -> None:
    args, plain = vars(parse(CifarOptions, "", words.split())), vars(parse(CifarOptions, "", ()))
    switches = {word.strip("-"): True for word in words.split()}
    changed = {name: value for name, value in args.items() if value != plain[name]}
    assert changed == switches | changes | {"save_tickets": True}


REGIMES = ("", "--sparse --sup-tickets", "--sparse --edst", "--snapshot", "--fge", "--sparse --method pf",
           "--sparse --sup-tickets --cycle-lr fge", "--sparse --sup-tickets --cycle-lr swa")  # fmt: skip


@pytest.mark.parametrize("words", REGIMES)
def test_scale_lr_scales_every_rate_of_every_regime(words: str) -> None:
    """Batches of 512 images instead of the recipe's 128: four times as large, in all phases."""
    lines = (words.split(), [*words.split(), "--scale-lr"])
    plain, scaled = (make_plan(parse(CifarOptions, "", line), 10, 512) for line in lines)
    for phase, larger in zip(plain, scaled, strict=True):
        steps = range(phase.end - phase.start)
        assert [larger.lr(step) for step in steps] == pytest.approx([4 * phase.lr(step) for step in steps])


@pytest.mark.parametrize(
    ("words", "epochs"),
    [("--epochs 500", (250, 250)), ("--epochs 7", (4, 3)), ("--epochs 7 --fine-tune-epochs 2", (5, 2))],
)
def test_fine_tuning_is_as_long_as_asked_for_or_half_of_the_run(words: str, epochs: tuple[int, int]) -> None:
    options = parse(CifarOptions, "", f"--sparse --method pf --fine-tune-lr 0.003 {words}".split())
    before, after = make_plan(options, 10, 128)
    assert ((before.end - before.start) // 10, (after.end - after.start) // 10) == epochs
    assert {after.lr(step) for step in range(after.end - after.start)} == {0.003}
