"""How much the networks of an ensemble disagree on the images of each class: FreeTickets, Table 7."""

import torch
from torch import Tensor

from utils.command_line.commands.evaluate import RobustnessOptions
from utils.evaluations.columns import Block, FixedColumns
from utils.evaluations.subject import Subject
from utils.training.evaluation import by_image
from utils.training.metrics import DIVERSITY, disagreement

COLUMNS = FixedColumns({})  # they have a table of their own


def run(subject: Subject, options: RobustnessOptions) -> list[Block]:
    """Of the ensemble {class: part of the pairs of networks that predict different classes}, mean of its images."""

    def differ(inputs: Tensor, labels: Tensor) -> Tensor:
        """(B, 2): the label too, which a stream would only know now."""
        predicted = subject.predict(inputs)[: len(subject.models)]
        return torch.stack((disagreement(predicted, labels), labels.double()), dim=1)

    values, labels = by_image(subject.accelerator, subject.sets.test, 2, differ, "per class").cpu().T
    found = {}
    for label in range(subject.sets.test.num_classes):
        name = subject.sets.classes[label] if subject.sets.classes else str(label)
        if (own := values[labels == label]).numel():
            found[name] = own.mean().item()
    return [{} for _ in subject.models] + [found]


def printed(block: Block) -> list[list[str]]:
    """As a table of cells, the header first."""
    return [["class", DIVERSITY["disagreement"].title], *([name, f"{part:.3f}"] for name, part in block.items())]
