"""What options there are, what they default to, and that a row is all that one needs."""

from dataclasses import FrozenInstanceError, dataclass

import pytest
import yaml

from tests.command_line.lines import SUP, parsed
from utils.command_line.commands.benchmark import BenchmarkOptions
from utils.command_line.commands.evaluate import EvaluateOptions
from utils.command_line.commands.pack import PackOptions
from utils.command_line.commands.report import ReportOptions
from utils.command_line.commands.superpose import SuperposeOptions
from utils.command_line.options import NAMES, CifarOptions, ImageNetOptions, changes_results, defaults, effective
from utils.command_line.parser import parse
from utils.command_line.rows import CLOSED, Group, option, rows

KINDS = (CifarOptions, ImageNetOptions, EvaluateOptions, SuperposeOptions, PackOptions, ReportOptions, BenchmarkOptions)
INTERFACE = """
    data data-dir label-column limit-train limit-test model epochs batch-size lr momentum weight-decay seed
    sparse method density init-density sparse-init update-frequency prune-rate prune-rate-decay growth
    sup-tickets cycle-epochs ticket-fraction num-tickets explore-rate lr-low lr-high superpose cima-beta bn save-tickets
    prune-average
    edst exploration-epochs refine-epochs global-explore-rate snapshot fge ensemble
    cycle-lr explore-drop explore-growth rewind save-early fine-tune-epochs fine-tune-lr distill temperature width
    start-from continue-epochs parts-of
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


@pytest.mark.parametrize("kind", KINDS)
def test_rows_speak_of_options_that_there_are(kind):
    known = rows(kind)
    for row in known.values():
        named = [need.split()[0] for need in row.needs] + [*row.only, *row.idle, *row.brings]
        assert all(hasattr(kind, name) for name in named)
        assert all({*values} <= {*known[other].choices} for other, values in row.only.items())
    for name, default in defaults(kind).items():
        several = default if isinstance(default, tuple) else (default,)
        assert known[name].choices is None or default is None or {*several} <= {*known[name].choices}, name


def test_nothing_is_written_to_options():
    with pytest.raises(FrozenInstanceError):
        parse(CifarOptions, "", ()).seed = 1


def test_what_changes_no_result():
    free = {"data_dir", "workers", "config", "output_dir", "overwrite", "resume", "checkpoint_minutes", "save_early",
            "save_every", "dry_run"}  # fmt: skip
    assert {name for name in NAMES if not changes_results(name)} == free
    parts = {"batch_size", "gradient_accumulation_steps"}
    assert {name for name in NAMES if not changes_results(name, parts=False)} == free | parts


@dataclass(frozen=True, kw_only=True)
class NewOptions(Group):
    """new: What nobody has had before."""

    sharpness: float = option(0.5, "how sharp", metavar="S", fits=CLOSED, needs=("sup_tickets",),
                              idle={"rewind": "which is sharp"})  # fmt: skip
    colors: tuple[str, ...] = option(("red",), "which", choices=("red", "green", "blue"))


@dataclass(frozen=True, kw_only=True)
class MoreOptions(CifarOptions, NewOptions):
    """One more group for main_cifar.py."""


@pytest.mark.parametrize(
    ("words", "says"),
    [("--sharpness 0.3", "--sharpness does nothing without --sup-tickets: add --sup-tickets, or leave it out"),
     ("--sparse --sup-tickets --sharpness 2", "--sharpness 2.0 is not in [0, 1]"),
     ("--sparse --sup-tickets --rewind RUN --sharpness 1", "--sharpness does nothing with --rewind, which is sharp"),
     ("--colors red grey", "--colors: invalid choice: 'grey'"), ("--color red", "did you mean --colors?")],
)  # fmt: skip
def test_a_row_says_what_is_refused(words, says, capsys):
    with pytest.raises(SystemExit):
        parse(MoreOptions, "", words.split())
    assert says in capsys.readouterr().err


def test_a_row_is_shown_read_and_recorded(capsys, config):
    with pytest.raises(SystemExit):
        parse(MoreOptions, "", ["--help"])
    assert "new:\n  What nobody has had before.\n\n  --sharpness S " in (text := capsys.readouterr().out)
    assert "how sharp (0.5)\n" in text and "which (red)\n" in text
    given = parse(MoreOptions, "", [*SUP, "--sharpness", "0.25", "--colors", "green", "blue"])
    assert (given.sharpness, given.colors) == (0.25, ("green", "blue"))
    written = effective(given)
    assert (written["sharpness"], written["colors"]) == (0.25, ["green", "blue"])
    assert parse(MoreOptions, "", config(yaml.safe_dump(written))).colors == ("green", "blue")
    assert "sharpness" not in effective(parse(MoreOptions, "", ()))
