"""The lengths of a run that begins with the normal phase of another, and what it cannot begin with."""

from pathlib import Path

import pytest
import yaml

from utils.command_line.options import CifarOptions, ImageNetOptions, Options, effective
from utils.command_line.parser import parse

SUP = "--sparse --sup-tickets"


def folder_of(folder: Path, words: str, recipe: type[Options] = CifarOptions) -> str:
    """A run folder that holds no more than the options of its run."""
    (folder / "args.yaml").write_text(yaml.safe_dump(effective(parse(recipe, "", words.split()))))
    return str(folder)


@pytest.mark.parametrize(
    ("recipe", "of", "words", "lengths"),
    [  # epochs, tickets, what options in parts of the run are relative to
        (CifarOptions, SUP, SUP, (250, 3, 250)),  # the same again: 226 + 3 × 8
        (CifarOptions, SUP, f"{SUP} --epochs 250", (250, 3, 250)),
        (CifarOptions, SUP, f"{SUP} --cycle-epochs 2", (250, 12, 250)),
        (CifarOptions, SUP, f"{SUP} --cycle-epochs 2 --num-tickets 3", (232, 3, 250)),
        (CifarOptions, SUP, f"{SUP} --cycle-epochs 4 --ticket-fraction 0.2", (274, 12, 250)),
        (CifarOptions, SUP, "--sparse --continue-epochs 30", (256, None, 250)),
        (CifarOptions, "--sparse", f"{SUP} --num-tickets 3", (274, 3, 250)),  # all of a plain run is its normal phase
        (CifarOptions, "--sparse --epochs 100 --continue-epochs 10", f"{SUP} --num-tickets 1", (98, 1, 100)),
        (CifarOptions, f"{SUP} --epochs 100 --parts-of 120", f"{SUP} --num-tickets 2", (108, 2, 120)),
        (CifarOptions, "--fge", "--fge --num-tickets 2", (188, 2, 200)),  # 180 + 5 × 4
        (ImageNetOptions, SUP, SUP, (100, 4, 100)),
        (ImageNetOptions, SUP, f"{SUP} --cycle-epochs 1 --num-tickets 3", (95, 3, 100)),
    ],
)  # fmt: skip
def test_the_epochs_are_those_of_the_normal_phase_and_the_ending(
    recipe: type[Options], of: str, words: str, lengths: tuple[int, int | None, int], tmp_path: Path
) -> None:
    options = parse(recipe, "", [*words.split(), "--start-from", folder_of(tmp_path, of, recipe)])
    assert (options.epochs, options.num_tickets, options.parts_of) == lengths
    assert options.normal_epochs == parse(recipe, "", of.split()).normal_epochs


def test_what_a_run_records_of_its_ending_is_the_same_run_again(tmp_path: Path, config) -> None:
    words = [*SUP.split(), "--num-tickets", "2", "--start-from", folder_of(tmp_path, SUP)]
    first = parse(CifarOptions, "", words)
    assert effective(parse(CifarOptions, "", config(effective(first)))) == effective(first)


@pytest.mark.parametrize(
    ("of", "words", "says"),
    [
        (SUP, f"{SUP} --num-tickets 2 --epochs 250", "226 epochs, and an ending of 16: use 242, or leave it out"),
        (SUP, f"{SUP} --parts-of 242", "--parts-of 242 does not go with the normal phase"),
        (SUP, "--sparse", "add --sup-tickets, --fge or --continue-epochs N"),
        (SUP, f"{SUP} --ensemble 2", "--start-from does nothing with --ensemble, whose runs share no training"),
        (SUP, f"{SUP} --save-early 0.1", "--start-from does nothing with --save-early"),
        (SUP, "--sparse --edst", "--start-from does nothing with --edst, which has no normal phase"),
        ("--sparse --edst", SUP, "is a run without a normal phase"),
        ("--snapshot", "--fge", "is a run without a normal phase"),
    ],
)
def test_what_does_not_go_together_is_refused(of: str, words: str, says: str, tmp_path: Path, refused) -> None:
    assert says in refused(*words.split(), "--start-from", folder_of(tmp_path, of))


@pytest.mark.parametrize("damage", ["epochs: many", "method: none", "epochs: 3\ncontinue_epochs: 3", "- epochs"])
def test_options_that_are_damaged_are_no_run(damage: str, tmp_path: Path, refused) -> None:
    (tmp_path / "args.yaml").write_text(damage)
    assert str(tmp_path) in refused(*SUP.split(), "--start-from", str(tmp_path))


def test_a_folder_without_a_run_is_refused(tmp_path: Path, refused) -> None:
    assert "holds no args.yaml" in refused(*SUP.split(), "--start-from", str(tmp_path / "nowhere"))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("--sparse --continue-epochs 250", "--continue-epochs 250 leaves no others of --epochs 250"),
        (f"{SUP} --continue-epochs 3", "--continue-epochs does nothing with --sup-tickets"),
        ("--sparse --method pf --continue-epochs 3", "--continue-epochs does nothing with --method pf"),
        ("--snapshot --parts-of 3", "--parts-of does nothing with --snapshot, whose learning rate is its own"),
    ],
)
def test_an_ending_that_does_nothing_is_refused(words: str, says: str, refused) -> None:
    assert says in refused(*words.split())
