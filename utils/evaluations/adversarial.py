"""Metrics on natural adversarial images, ImageNet-A: aAcc, aNLL and aECE of FreeTickets, Table 3.

Hendrycks et al. 2019, Natural adversarial examples.
"""

from utils.command_line.commands.evaluate import RobustnessOptions
from utils.evaluations.columns import Block, metrics_columns
from utils.evaluations.subject import Subject

COLUMNS = metrics_columns("a")


def run(subject: Subject, options: RobustnessOptions) -> list[Block]:
    """The network chooses among the classes of the folder alone, 200 of ImageNet's, as FreeTickets' code has it."""
    rows = subject.sets.read("adversarial", options.adversarial)
    among = subject.sets.labels_of(rows).to(subject.accelerator.device)
    found = subject.metrics(subject.sets.images(rows), "adversarial", among)
    return [{**numbers, "classes": len(among)} for numbers in found]
