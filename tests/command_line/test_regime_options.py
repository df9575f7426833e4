"""The regimes of the papers on the command line: what does not go together, and that a run records what it did."""


import pytest

from tests.command_line.lines import SUP
from tests.papers import ON_IMAGENET, PLANS
from utils.command_line.options import CifarOptions, ImageNetOptions, Options, effective
from utils.command_line.parser import parse
from utils.training.plan import make_plan


@pytest.mark.parametrize(
    ("words", "without"),
    [
        ("--sparse --exploration-epochs 10", "--edst"),
        ("--sparse --refine-epochs 10", "--edst"),
        ("--sparse --global-explore-rate 0.5", "--edst"),
        ("--sparse --edst --cycle-epochs 2", "--sup-tickets or --fge"),
        ("--sparse --edst --explore-rate 0.3", "--sup-tickets"),
        ("--snapshot --lr-low 0.01", "--sup-tickets or --fge"),
        ("--fge --cycle-lr swa", "--sup-tickets"),
        ("--num-tickets 3", "--sup-tickets or --edst or --snapshot or --fge"),
        ("--save-tickets", "--sup-tickets or --edst or --snapshot or --fge"),
        ("--temperature 3", "--distill"),
    ],
)
def test_an_option_of_a_regime_needs_that_regime(words: str, without: str, refused) -> None:
    assert f"does nothing without {without}: add {without}" in refused(*words.split())


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("--sparse --sup-tickets --edst", "--sup-tickets and --edst are different plans"),
        ("--sparse --edst --snapshot", "--edst and --snapshot are different plans"),
        ("--snapshot --fge", "--snapshot and --fge are different plans"),
        ("--sparse --snapshot", "--snapshot is for dense networks"),
        ("--sparse --fge", "--fge is for dense networks"),
        ("--ensemble 1", "--ensemble 1 is not at least 2"),
        ("--ensemble 0", "--ensemble 0 is not at least 2"),
        ("--ensemble 3 --resume checkpoints/step-00000007", "use --resume auto"),
        ("--sparse --fine-tune-epochs 3", "--fine-tune-epochs does nothing with --method rigl: it is for pf"),
        ("--sparse --method gmp --fine-tune-lr 0.1", "--fine-tune-lr does nothing with --method gmp: it is for pf"),
        ("--sparse --method pf --prune-end 0.5", "--prune-end does nothing with --method pf: it is for granet and gmp"),
        ("--sparse --method pf --sup-tickets --fine-tune-epochs 3", "epochs does nothing with --sup-tickets"),
        ("--sparse --method pf --sup-tickets --fine-tune-lr 0.1", "--fine-tune-lr does nothing with --sup-tickets"),
        ("--sparse --method pf --edst --fine-tune-lr 0.1", "--fine-tune-lr does nothing with --edst"),
        ("--sparse --rewind RUN --sparse-init er", "--sparse-init does nothing with --rewind"),
        ("--sparse --edst --epochs 4", "--epochs 4 is too short for 3 tickets of --edst: use 5 or more"),
        ("--sparse --edst --num-tickets 7 --epochs 8", "8 is too short for 7 tickets of --edst: use 9 or more"),
        ("--sparse --edst --epochs 80 --refine-epochs 10", "are 180 epochs, not --epochs 80"),
        ("--sparse --edst --epochs 80 --exploration-epochs 20 --refine-epochs 30", "are 110 epochs, not --epochs 80"),
        ("--sparse --sup-tickets --lr-low 0.1", "--lr-low 0.1 is above --lr-high 0.005"),
        ("--fge --lr-low 0.1", "--lr-low 0.1 is above --lr-high 0.05"),
        ("--sparse --edst --global-explore-rate 1.1", "--global-explore-rate 1.1 is not in [0, 1]"),
        ("--sparse --edst --exploration-epochs 0", "--exploration-epochs 0 is not a positive number"),
        ("--sparse --method pf --fine-tune-epochs 0", "--fine-tune-epochs 0 is not a positive number"),
        ("--sparse --method pf --fine-tune-lr 0", "--fine-tune-lr 0.0 is not a positive number"),
        ("--width 0", "--width 0.0 is not a positive number"),
        ("--width nan", "--width nan is not a positive number"),
        ("--distill T --temperature 0", "--temperature 0.0 is not a positive number"),
        ("--save-early 0", "--save-early 0.0 is not in (0, 1)"),
        ("--save-early 1", "--save-early 1.0 is not in (0, 1)"),
    ],
)  # fmt: skip
def test_what_makes_no_regime_is_refused(words: str, says: str, refused) -> None:
    assert says in refused(*words.split())


@pytest.mark.parametrize(
    ("recipe", "words", "lengths"),
    [  # epochs, exploration, refinement, tickets
        (CifarOptions, "", (450, 150, 100, 3)),
        (CifarOptions, "--num-tickets 7", (850, 150, 100, 7)),
        (CifarOptions, "--epochs 80", (80, 29, 17, 3)),
        (CifarOptions, "--epochs 5", (5, 2, 1, 3)),
        (CifarOptions, "--num-tickets 7 --epochs 9", (9, 2, 1, 7)),
        (CifarOptions, "--refine-epochs 20", (210, 150, 20, 3)),
        (CifarOptions, "--exploration-epochs 10 --refine-epochs 2 --num-tickets 2", (14, 10, 2, 2)),
        (CifarOptions, "--exploration-epochs 10 --refine-epochs 2 --num-tickets 2 --epochs 14", (14, 10, 2, 2)),
        (ImageNetOptions, "--num-tickets 2", (170, 30, 70, 2)),
        (ImageNetOptions, "--num-tickets 4 --epochs 310", (310, 30, 70, 4)),
        (ImageNetOptions, "--epochs 17 --num-tickets 2", (17, 3, 7, 2)),
    ],
)
def test_the_epochs_of_edst_are_divided_as_in_the_paper(
    recipe: type[Options], words: str, lengths: tuple[int, int, int, int]
) -> None:
    args = parse(recipe, "", ["--sparse", "--edst", *words.split()])
    assert (args.epochs, args.exploration_epochs, args.refine_epochs, args.num_tickets) == lengths


REGIMES = {name: (CifarOptions, words) for name, (words, _) in PLANS.items()}
REGIMES |= {name: (ImageNetOptions, words) for name, (words, *_) in ON_IMAGENET.items()}
REGIMES |= {
    "SWA baseline 1": (CifarOptions, f"{' '.join(SUP)} --method pf --growth none --cycle-lr swa"),
    "SWA baseline 2": (CifarOptions, f"{' '.join(SUP)} --method static --growth none --cycle-lr swa"),
    "prediction ensemble": (CifarOptions, f"{' '.join(SUP)} --save-tickets"),
    "distillation": (CifarOptions, "--sparse --method set --distill 1.safetensors 2.safetensors --temperature 4"),
    "small dense": (CifarOptions, "--width 0.34"),
    "fine-tuning": (CifarOptions, "--sparse --method pf --fine-tune-epochs 20 --fine-tune-lr 0.01"),
    "EDST of PF": (CifarOptions, "--sparse --method pf --edst"),
}


@pytest.mark.parametrize("name", REGIMES)
def test_what_a_run_records_of_its_regime_is_the_same_run_again(name: str, config) -> None:
    recipe, words = REGIMES[name]
    first = parse(recipe, "", words.split())
    again = parse(recipe, "", config(effective(first)))
    assert effective(again) == effective(first)
    for one, other in zip(make_plan(first, 50, 128), make_plan(again, 50, 128), strict=True):
        assert (one.name, one.start, one.end, one.explore) == (other.name, other.start, other.end, other.explore)
        assert [one.lr(step) for step in (0, 7, 49)] == [other.lr(step) for step in (0, 7, 49)]


@pytest.mark.parametrize("switch", ["--edst --sparse", "--snapshot", "--fge"])
def test_an_ensemble_from_one_run_is_not_made_of_several(switch, refused):
    assert f"{switch.split()[0]} makes an ensemble in one run" in refused(*switch.split(), "--ensemble", "2")


@pytest.mark.parametrize(
    ("switch", "words"),
    [("--snapshot", "--lr-drops 0.5"), ("--snapshot", "--lr-parts run"), ("--snapshot", "--warmup 0.1"),
     ("--edst --sparse", "--lr-drops 0.5")],
)  # fmt: skip
def test_learning_rates_that_a_plan_does_not_have_are_refused(switch, words, refused):
    said = refused(*switch.split(), *words.split())
    assert f"{words.split()[0]} does nothing with {switch.split()[0]}, whose learning rate is its own" in said
