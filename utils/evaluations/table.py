"""The table of evaluations beyond the test images. To add one, write its file, its option and its row."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from utils.command_line.commands.evaluate import RobustnessOptions
from utils.evaluations import adversarial, corrupted, fgsm, out_of_distribution, per_class
from utils.evaluations.columns import Block, Column, Columns
from utils.evaluations.subject import Subject
from utils.run_folder.contents import Numbers

Blocks = dict[str, Block]  # by the name of the evaluation


@dataclass(frozen=True)
class Evaluation:
    """A row of EVALUATIONS.

    Attributes:
        option: that asks for it.
        run: returns a block for each predictor of the subject; an empty one where it has none.
        columns: of the numbers in a block that tables show.
    """

    option: str
    run: Callable[[Subject, RobustnessOptions], Sequence[Block]]
    columns: Columns


EVALUATIONS = {
    "corrupted": Evaluation("corruptions", corrupted.run, corrupted.COLUMNS),
    "adversarial": Evaluation("adversarial", adversarial.run, adversarial.COLUMNS),
    "ood": Evaluation("ood", out_of_distribution.run, out_of_distribution.COLUMNS),
    "fgsm": Evaluation("fgsm", fgsm.run, fgsm.COLUMNS),
    "per_class": Evaluation("per_class", per_class.run, per_class.COLUMNS),
}


def further(subject: Subject, options: RobustnessOptions) -> list[Blocks]:
    """For each predictor the blocks of those evaluations that the options ask for."""
    found: list[Blocks] = [{} for _ in range(subject.predictors)]
    for name, evaluation in EVALUATIONS.items():
        if getattr(options, evaluation.option):
            for blocks, block in zip(found, evaluation.run(subject, options), strict=True):
                blocks |= {name: block} if block else {}
    return found


def flat(blocks: Mapping[str, Block]) -> Numbers:
    """The numbers of blocks that tables show, named as in summary.json: {"corrupted_accuracy": 76.1}."""
    named = {f"{name}_{part}": value for name, block in blocks.items() for part, value in block.items()}
    shown = evaluated(named)
    return {name: value for name, value in named.items() if name in shown and isinstance(value, float)}


def evaluated(names: Iterable[str]) -> dict[str, Column]:
    """The columns of those names that `flat` makes, in the order of EVALUATIONS."""
    names, found = [*names], {}
    for key, evaluation in EVALUATIONS.items():
        for name in names:
            if name.startswith(f"{key}_") and (column := evaluation.columns.named(name.removeprefix(f"{key}_"))):
                found[name] = column
    return found


def titled(title: str) -> Column | None:
    """The column of this title; None where it is not of an evaluation."""
    return next(filter(None, (evaluation.columns.titled(title) for evaluation in EVALUATIONS.values())), None)
