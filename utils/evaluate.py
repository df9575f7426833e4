"""Accuracy, NLL and calibration of saved tickets, and of their ensemble (FreeTickets: the mean of softmax outputs).

python -m utils.evaluate --tickets runs/NAME/ticket.safetensors
python -m utils.evaluate --tickets runs/NAME/tickets/*.safetensors --data cifar10 --model vgg16
python -m utils.evaluate --tickets runs/NAME/tickets/*.safetensors --corruptions CIFAR-10-C --fgsm --ood svhn gaussian
accelerate launch -m utils.evaluate --tickets runs/NAME/ticket.safetensors --data-dir IMAGENET --corruptions IMAGENET-C

In full precision: the numbers are those of a run's summary where it trained in full precision too. Any number of
processes share the images, and come to the same numbers.
"""

from utils.command_line.commands.evaluate import EvaluateOptions
from utils.command_line.parser import parse
from utils.command_line.program import start

if __name__ == "__main__":  # a mistake is answered before the imports below, which take seconds
    start()
    OPTIONS = parse(EvaluateOptions, __doc__)

from typing import NamedTuple

from accelerate import Accelerator

from sparselearning.layers import maskable_weights
from utils.command_line.errors import one_line_errors
from utils.command_line.paths import writing
from utils.evaluations.opening import open_tickets
from utils.evaluations.per_class import printed
from utils.evaluations.recorded import record
from utils.evaluations.table import Blocks, flat, further
from utils.files.whole import write_json
from utils.reporting.tables import markdown, models_table
from utils.run_folder.contents import Numbers
from utils.training.build import launched
from utils.training.metrics import METRICS
from utils.training.saved import connections


class Result(NamedTuple):
    """What a ticket, or the ensemble of them all, comes to: numbers on the test images, and blocks of EVALUATIONS."""

    numbers: Numbers
    blocks: Blocks

    def content(self) -> dict[str, object]:
        return {**self.numbers, **self.blocks}

    def row(self) -> Numbers:
        """All that has a column in a table."""
        return self.numbers | flat(self.blocks)


class Evaluated(NamedTuple):
    """What is evaluated, and with what result.

    Attributes:
        images: how many.
        files, models: the ticket's, and the name of its network.
        tickets: the result of each of them.
        ensemble: of all of them together, where there are several.
    """

    data: str
    images: int
    files: list[str]
    models: list[str]
    tickets: list[Result]
    ensemble: Result | None

    @property
    def used(self) -> Result:
        """The ensemble, or the only ticket."""
        return self.ensemble or self.tickets[0]

    def content(self) -> dict[str, object]:
        """That of `--json`: the results, and beside them, once more, METRICS and blocks of `used`."""
        own = zip(self.files, self.models, self.tickets, strict=True)
        rows = [{"file": file, "model": model, **result.content()} for file, model, result in own]
        together = {"ensemble": self.ensemble.content()} if self.ensemble else {}
        used = {name: self.used.numbers[name] for name in METRICS} | self.used.blocks
        return {"data": self.data, "images": self.images, "tickets": rows, **together, **used}

    def rows(self) -> list[tuple[str, Numbers]]:
        """Those of the table on the screen."""
        together = [("ensemble", self.ensemble.row())] if self.ensemble else []
        return [*((file, result.row()) for file, result in zip(self.files, self.tickets, strict=True)), *together]


def evaluate(options: EvaluateOptions, accelerator: Accelerator) -> Evaluated:
    """Metrics and connections of each ticket, metrics of all of them together, and what else the options ask for."""
    subject, headers, names, data = open_tickets(options, accelerator)
    found = [Result(*pair) for pair in zip(subject.on_test_images(), further(subject, options), strict=True)]
    tickets = []
    for model, header, result in zip(subject.models, headers, found, strict=False):  # the ensemble comes last
        weights = maskable_weights(model, (header.exempt or "").split()).values()
        tickets.append(Result(connections(weights) | result.numbers, result.blocks))
    ensemble = found[-1] if len(tickets) > 1 else None
    return Evaluated(data, len(subject.sets.test), [*map(str, options.tickets)], names, tickets, ensemble)


@one_line_errors()
def main(options: EvaluateOptions) -> None:
    accelerator = launched("no")
    evaluation = evaluate(options, accelerator)
    if not accelerator.is_main_process:
        return
    print(models_table("ticket", evaluation.rows()))
    if options.per_class:
        print("\n" + markdown(printed(evaluation.used.blocks["per_class"])))
    if options.json:
        with writing("--json", options.json):
            write_json(options.json, evaluation.content())
    if options.summary:
        with writing("--summary", options.summary):
            record(options.summary, evaluation.data, evaluation.models, evaluation.used.blocks)


if __name__ == "__main__":
    main(OPTIONS)
