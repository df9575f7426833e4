"""The command line: what is there, what it defaults to, where a config file stands, and what is refused in one line."""

from pathlib import Path

import pytest

from tests.training.test_regimes import ON_IMAGENET, PLANS
from utils.command_line.options import NAMES, CifarOptions, ImageNetOptions, Options, defaults, effective
from utils.command_line.parser import build_parser, parse
from utils.training.plan import make_plan

INTERFACE = """
    data data-dir label-column limit-train limit-test model epochs batch-size lr momentum weight-decay seed
    sparse method density init-density sparse-init update-frequency prune-rate prune-rate-decay growth
    sup-tickets cycle-epochs ticket-fraction num-tickets explore-rate lr-low lr-high superpose cima-beta bn save-tickets
    prune-average
    edst exploration-epochs refine-epochs global-explore-rate snapshot fge ensemble
    cycle-lr explore-drop explore-growth rewind save-early fine-tune-epochs fine-tune-lr distill temperature width
    mixed-precision gradient-accumulation-steps compile deterministic config output-dir overwrite resume dry-run
"""
CHOICES = {
    "method": "static snip set rigl granet gmp snfs dsr pf",
    "sparse-init": "erk er uniform snip",
    "prune-rate-decay": "constant cosine linear",
    "growth": "gradient random momentum",
    "superpose": "cia caa cima",
    "bn": "average recompute",
    "prune-average": "every last",
    "cycle-lr": "triangle fge swa",
    "mixed-precision": "no bf16 fp16",
}
SUP = ["--sparse", "--sup-tickets"]


def parsed(*argv: str) -> dict[str, object]:
    return vars(parse(CifarOptions, "", argv))


# ---- what is there -------------------------------------------------------------------------------------------------


def test_defaults_are_the_papers_recipe():
    args = parsed()
    expected = {
        "data": "cifar10", "model": "vgg16", "epochs": 250, "batch_size": 128, "lr": 0.1, "lr_drops": (0.5, 0.75),
        "momentum": 0.9, "weight_decay": 5e-4, "seed": 0, "sparse": False, "method": "rigl", "density": 0.05,
        "prune_rate": 0.5, "prune_rate_decay": "constant", "sup_tickets": False, "cycle_epochs": 8, "lr_low": 0.001,
        "lr_high": 0.005, "explore_rate": 0.5, "superpose": "cia", "cima_beta": 0.8, "bn": "average",
    }  # fmt: skip
    assert {name: args[name] for name in expected} == expected


def test_every_option_of_the_interface_exists():
    assert set(INTERFACE.split()) <= {name.replace("_", "-") for name in NAMES}


@pytest.mark.parametrize("kind", [CifarOptions, ImageNetOptions])
def test_what_is_made_without_a_command_line_is_what_is_parsed_without_an_option(kind):
    assert kind() == parse(kind, "", ())
    assert {*defaults(kind)} == {*vars(kind())}


@pytest.mark.parametrize("name", CHOICES)
def test_choices_of_the_interface(name, refused):
    for value in CHOICES[name].split():
        assert parsed(*SUP, f"--{name}", value)[name.replace("-", "_")] == value
    assert f"--{name}" in refused(*SUP, f"--{name}", "nonsense")


def test_help_shows_groups_and_defaults(capsys):
    with pytest.raises(SystemExit) as stop:
        parse(CifarOptions, "What it does.", ["--help"])
    text = capsys.readouterr().out
    assert stop.value.code == 0 and "What it does." in text
    titles = ("data", "images", "model and optimizer", "sparse training", "Sup-tickets", "ensembles", "run")
    positions = [text.index(f"\n{title}:\n  ") for title in titles]  # each with its introduction
    assert positions == sorted(positions)
    for action in build_parser(CifarOptions, "")._actions:
        default = defaults(CifarOptions).get(action.dest)
        if default not in (None, False, ()):
            shown = " ".join(map(str, default)) if isinstance(default, tuple) else default
            assert action.help.endswith(f"({shown})")


# ---- what is refused -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    ["--method set", "--density 0.1", "--init-density 0.5 --method granet", "--sparse-init er", "--update-frequency 10",
     "--prune-rate 0.3", "--prune-rate-decay cosine", "--growth random", "--sup-tickets", "--edst", "--rewind RUN",
     "--method pf --fine-tune-epochs 9", "--method pf --fine-tune-lr 0.01", "--update-limit 100"],
)  # fmt: skip
def test_sparse_options_need_sparse(words, refused):
    assert "does nothing without --sparse: add --sparse" in refused(*words.split())
    assert parsed("--sparse", *words.split())


@pytest.mark.parametrize(
    "words",
    ["--cycle-epochs 4", "--ticket-fraction 0.2", "--num-tickets 2", "--explore-rate 0.3", "--lr-low 0.002",
     "--lr-high 0.02", "--superpose caa", "--bn recompute", "--include-normal", "--save-tickets", "--cycle-lr swa",
     "--explore-drop largest", "--explore-growth random none", "--prune-average last"],
)  # fmt: skip
def test_ticket_options_need_sup_tickets(words, refused):
    option = words.split()[0]
    assert f"{option} does nothing without --sup-tickets" in refused("--sparse", *words.split())
    assert parsed(*SUP, *words.split())


def test_beta_needs_cima(refused):
    assert "without --superpose cima: add" in refused(*SUP, "--cima-beta", "0.5")
    assert parsed(*SUP, "--superpose", "cima", "--cima-beta", "0.5")["cima_beta"] == 0.5


@pytest.mark.parametrize("density", ["0", "-0.1", "1.0001", "5", "nan", "inf"])
def test_density_lies_between_0_and_1(density, refused):
    assert "is not in (0, 1]" in refused("--sparse", "--density", density)


def test_a_network_may_be_kept_whole():
    assert parsed("--sparse", "--density", "1")["density"] == 1


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("--epoch 3", "--epoch"),  # options are not abbreviated: a later one could change what they mean
        ("--over", "--over"),
        ("--denisty 0.1", "--denisty"),
        ("stray", "stray"),
        ("--epochs", "--epochs"),
        ("--epochs 0", "--epochs 0"),
        ("--epochs ten", "--epochs"),
        ("--batch-size -4", "--batch-size -4"),
        ("--gradient-accumulation-steps 0", "--gradient-accumulation-steps 0"),
        ("--lr 0", "--lr 0"),
        ("--valid-fraction 1", "--valid-fraction 1"),
        ("--sparse --sup-tickets --explore-rate 2", "--explore-rate 2"),
        ("--sparse --sup-tickets --lr-high -1", "--lr-high -1"),
    ],
)
def test_a_wrong_command_line_is_refused(words, says, refused):
    assert says in refused(*words.split())


def test_the_program_is_named(monkeypatch, refused):
    monkeypatch.setattr("sys.argv", [str(Path("somewhere") / "main_cifar.py")])
    assert refused("--nonsense").startswith("main_cifar.py: ")


@pytest.mark.parametrize(
    "words",
    ["--momentum -1", "--momentum inf", "--weight-decay nan", "--lr nan", "--lr inf", "--seed -1", "--lr-drops 0.5 7",
     "--clip-grad-norm 0", "--checkpoint-minutes nan", "--epochs 0", "--valid-fraction 1", "--limit-train 0"],
)  # fmt: skip
def test_numbers_that_mean_nothing_are_refused(words, refused):
    assert f"{words.split()[0]} " in refused(*words.split())


@pytest.mark.parametrize("words", ["--init-density 0.3", "--prune-end 0.9", "--method static --init-density 0.3"])
def test_gradual_options_need_a_gradual_method(words, refused):
    assert "it is for granet and gmp" in refused("--sparse", *words.split())


# ---- the regimes of the papers -------------------------------------------------------------------------------------


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


@pytest.mark.parametrize("kind", [CifarOptions, ImageNetOptions])
def test_help_mentions_every_option_once(kind, capsys) -> None:
    with pytest.raises(SystemExit):
        parse(kind, "", ["--help"])
    starts = [line.split()[0] for line in capsys.readouterr().out.splitlines() if line.startswith("  --")]
    assert sorted(starts) == sorted(["--help,", *(f"--{name.replace('_', '-')}" for name in defaults(kind))])


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
