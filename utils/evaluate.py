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

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from models import build
from sparselearning.errors import UsageError
from sparselearning.layers import maskable_weights
from sparselearning.tickets import read_header
from utils.command_line.errors import one_line_errors
from utils.data.cifar import load_cifar
from utils.data.protocol import Images
from utils.files.whole import write_whole
from utils.reporting.tables import models_table
from utils.run_folder.headers import agreed, number, preprocessing_of, required
from utils.run_folder.tickets import load_ticket
from utils.training.evaluation import BATCH
from utils.training.metrics import DIVERSITY, ensemble, per_sample, summarize


def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def network(name: str, num_classes: int, width: float) -> nn.Module:
    """A network on the device, to load tickets into."""
    return build(name, num_classes, width).to(device()).to(memory_format=torch.channels_last)


@torch.no_grad()
def predict(model: nn.Module, images: Images) -> Tensor:
    """Log-probabilities, float64 (N, classes), of a model in evaluation mode."""
    model.eval()
    ranges = [(start, min(start + BATCH, len(images))) for start in range(0, len(images), BATCH)]
    batches = tqdm(images.clean_batches(ranges), "predicting", len(ranges), leave=False, disable=None)
    return torch.cat([model(inputs) for inputs, _ in batches]).double().log_softmax(1)


def connections(weights: Iterable[Tensor]) -> dict[str, float]:
    """Of maskable weights: how many are not zero, how many there are, and the ratio."""
    counts = [(int(weight.count_nonzero()), weight.numel()) for weight in weights]
    nnz, maskable = (sum(column) for column in zip(*counts, strict=True))
    return {"nnz": nnz, "maskable": maskable, "density": nnz / maskable}


def evaluate_tickets(options: EvaluateOptions) -> dict[str, Any]:
    """The content of `--json`: metrics and connections of each ticket, and of all of them together."""
    headers = [read_header(path) for path in options.tickets]
    data = required("data", agreed(headers, "data", options.data))
    look = preprocessing_of(headers, data)
    splits = load_cifar(data, options.data_dir, device(), limit_train=1, limit_test=options.limit_test, **look)
    test, tickets, predictions = splits.test, [], []
    for path, header in zip(options.tickets, headers, strict=True):
        name = required("model", options.model or header.get("model"))
        model = network(name, splits.num_classes, number(header, "width") or 1.0)
        model.load_state_dict(load_ticket(path, model.state_dict()))
        predictions.append(predict(model, test))
        weights = maskable_weights(model, header.get("exempt", "").split()).values()
        metrics = summarize(per_sample(predictions[-1], test.labels))
        tickets.append({"file": str(path), "model": name, **connections(weights), **metrics})
    summary: dict[str, Any] = {"data": data, "images": len(test), "tickets": tickets}
    if len(tickets) > 1:
        outputs = torch.stack(predictions)
        diversity = summarize(per_sample(outputs, test.labels, DIVERSITY), DIVERSITY)
        summary["ensemble"] = summarize(per_sample(ensemble(outputs), test.labels)) | diversity
    return summary


def write_numbers(path: Path | None, summary: Mapping[str, Any]) -> None:
    """The file of `--json`, where it is asked for."""
    try:
        if path is not None:
            write_whole(path, json.dumps(summary, indent=2) + "\n")
    except OSError as error:
        raise UsageError(f"--json {path} cannot be written: {error.strerror}") from error


@one_line_errors()
def main(options: EvaluateOptions) -> None:
    summary = evaluate_tickets(options)
    rows = [(row["file"], row) for row in summary["tickets"]]
    rows += [("ensemble", summary["ensemble"])] if "ensemble" in summary else []
    print(models_table("ticket", rows))
    write_numbers(options.json, summary)


if __name__ == "__main__":
    main(OPTIONS)
