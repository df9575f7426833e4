"""Accuracy, NLL and calibration of saved tickets, and of their ensemble (FreeTickets: the mean of softmax outputs).

python -m utils.evaluate --tickets runs/NAME/ticket.safetensors
python -m utils.evaluate --tickets runs/NAME/tickets/*.safetensors --data cifar10 --model vgg16

In full precision and one process: the numbers are those of a run's summary where it trained in full precision too.
"""

from utils.command_line.commands import EvaluateOptions
from utils.command_line.parser import parse
from utils.command_line.program import start

if __name__ == "__main__":  # a mistake is answered before the imports below, which take seconds
    start()
    OPTIONS = parse(EvaluateOptions, __doc__)

from typing import NamedTuple

import torch

from sparselearning.layers import maskable_weights
from utils.command_line.errors import one_line_errors
from utils.command_line.paths import writing
from utils.data.cifar import load_cifar
from utils.files.whole import write_json
from utils.reporting.tables import models_table
from utils.run_folder.contents import Numbers
from utils.run_folder.headers import agreed, parse_header, preprocessing_of, required
from utils.run_folder.tickets import load_ticket
from utils.training.metrics import DIVERSITY, ensemble, per_sample, summarize
from utils.training.saved import connections, device, network, predict
from utils.training.soups import Row


class Evaluation(NamedTuple):
    """What is evaluated, and with what result.

    Attributes:
        images: how many.
        models: the name of that of each ticket.
        tickets: a row for each of them.
        ensemble: metrics of all of them together, where there are several.
    """

    data: str
    images: int
    models: list[str]
    tickets: list[Row]
    ensemble: Numbers

    def content(self) -> dict[str, object]:
        """That of `--json`."""
        own = zip(self.models, self.tickets, strict=True)
        rows = [{"file": file, "model": model, **numbers} for model, (file, numbers) in own]
        together = {"ensemble": self.ensemble} if self.ensemble else {}
        return {"data": self.data, "images": self.images, "tickets": rows, **together}


def evaluate(options: EvaluateOptions) -> Evaluation:
    """Metrics and connections of each ticket, and metrics of all of them together."""
    headers = [parse_header(path) for path in options.tickets]
    data = required("data", agreed("data", [header.data for header in headers], options.data))
    preprocessing = preprocessing_of(headers, data)
    splits = load_cifar(data, options.data_dir, device(), limit_train=1, limit_test=options.limit_test, **preprocessing)
    labels, names, tickets, predictions = splits.test.labels, [], [], []
    for path, header in zip(options.tickets, headers, strict=True):
        names.append(required("model", options.model or header.model))
        model = network(names[-1], splits.num_classes, header.width or 1.0)
        model.load_state_dict(load_ticket(path, model.state_dict()))
        predictions.append(predict(model, splits.test))
        weights = maskable_weights(model, (header.exempt or "").split()).values()
        metrics = summarize(per_sample(predictions[-1], labels))
        tickets.append(Row(str(path), connections(weights) | metrics))
    together: Numbers = {}
    if len(tickets) > 1:
        outputs = torch.stack(predictions)
        together = summarize(per_sample(ensemble(outputs), labels))
        together |= summarize(per_sample(outputs, labels, DIVERSITY), DIVERSITY)
    return Evaluation(data, len(labels), names, tickets, together)


@one_line_errors()
def main(options: EvaluateOptions) -> None:
    evaluation = evaluate(options)
    together = [Row("ensemble", evaluation.ensemble)] if evaluation.ensemble else []
    print(models_table("ticket", [*evaluation.tickets, *together]))
    if options.json:
        with writing("--json", options.json):
            write_json(options.json, evaluation.content())


if __name__ == "__main__":
    main(OPTIONS)
