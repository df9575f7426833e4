"""Accuracy, NLL and calibration of saved tickets, and of their ensemble (FreeTickets: the mean of softmax outputs).

python -m utils.evaluate --tickets runs/NAME/ticket.safetensors
python -m utils.evaluate --tickets runs/NAME/tickets/*.safetensors --data cifar10 --model vgg16

In full precision and one process: the numbers are those of a run's summary where it trained in full precision too.
"""

import json
import math
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from models import build
from sparselearning.errors import UsageError
from sparselearning.layers import maskable_weights
from utils.arguments import Help, Parser
from utils.data import ImageSet, load_cifar
from utils.errors import one_line_errors
from utils.evaluation import BATCH
from utils.files import load_ticket, write_whole
from utils.metrics import per_sample, summarise


def option(args: Namespace, path: Path, name: str) -> str:
    """`--data` or `--model`: as given, else as the header of the ticket says.

    Raises:
        UsageError: neither says it, or the file cannot be read.
    """
    try:
        with safe_open(path, "pt") as file:
            said = getattr(args, name) or (file.metadata() or {}).get(name)
    except (SafetensorError, OSError) as error:
        raise UsageError(f"{path} is not a readable ticket: {' '.join(str(error).split())}") from error
    if said is None:
        raise UsageError(f"{path} does not say what {name} it is for: add --{name}")
    return said


@torch.no_grad()
def predict(model: nn.Module, images: ImageSet) -> Tensor:
    """Log-probabilities, float64 (N, classes), of a model in evaluation mode."""
    model.eval()
    ranges = [(start, min(start + BATCH, len(images))) for start in range(0, len(images), BATCH)]
    return torch.cat([model(inputs) for inputs, _ in images.clean_batches(ranges)]).double().log_softmax(1)


def evaluate_tickets(args: Namespace) -> dict[str, Any]:
    """The content of `--json`: metrics and connections of each ticket, and of all of them together."""
    names = {path: option(args, path, "data") for path in args.tickets}
    if len(set(names.values())) > 1:
        raise UsageError(f"the tickets are for {' and '.join(sorted(set(names.values())))}: evaluate them one by one")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    data = names[args.tickets[0]]
    splits = load_cifar(data, args.data_dir, device, limit_train=1, limit_test=args.limit_test)
    results, predictions = [], []
    for path in args.tickets:
        name = option(args, path, "model")
        model = build(name, splits.num_classes).to(device).to(memory_format=torch.channels_last)
        model.load_state_dict(load_ticket(path, model.state_dict()))
        predictions.append(predict(model, splits.test))
        weights = maskable_weights(model).values()
        nnz, maskable = sum(int(w.count_nonzero()) for w in weights), sum(w.numel() for w in weights)
        about = {"file": str(path), "model": name, "nnz": nnz, "maskable": maskable, "density": nnz / maskable}
        results.append(about | summarise(per_sample(predictions[-1], splits.test.labels)))
    summary: dict[str, Any] = {"data": data, "images": len(splits.test), "tickets": results}
    if len(results) > 1:
        mean = torch.stack(predictions).logsumexp(0) - math.log(len(predictions))  # of probabilities, as a logarithm
        summary["ensemble"] = summarise(per_sample(mean, splits.test.labels))
    return summary


def table(summary: dict[str, Any]) -> str:
    """A line per ticket, and one for the ensemble."""
    width = max(len(ticket["file"]) for ticket in summary["tickets"])
    lines = [f"{'ticket':<{width}s} {'accuracy':>10s} {'NLL':>7s} {'ECE':>7s} {'nnz':>11s} {'density':>8s}"]
    for m in [*summary["tickets"], *([summary["ensemble"]] if "ensemble" in summary else [])]:
        name, size = m.get("file", "ensemble"), f" {m['nnz']:>11,d} {m['density']:8.4f}" if "nnz" in m else ""
        lines.append(f"{name:<{width}s} {m['accuracy']:8.2f} % {m['nll']:7.3f} {m['ece']:7.3f}{size}")
    return "\n".join(lines)


@one_line_errors()
def main(argv: Sequence[str] | None = None) -> None:
    parser = Parser("python -m utils.evaluate", description=__doc__.split("\n")[0], formatter_class=Help)
    parser.add_argument("--tickets", nargs="+", type=Path, required=True, metavar="FILE", help="safetensors files")
    parser.add_argument("--data", metavar="NAME", help="cifar10, cifar100 or digits (what the tickets say)")
    parser.add_argument("--data-dir", metavar="FOLDER", help="read the data here instead of from the Hub")
    parser.add_argument("--model", metavar="NAME", help="(what the tickets say)")
    parser.add_argument("--limit-test", type=int, metavar="N", help="use the first N test images only")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers here")
    args = parser.parse_args(argv)
    summary = evaluate_tickets(args)
    print(table(summary))
    try:
        if args.json:
            write_whole(args.json, json.dumps(summary, indent=2) + "\n")
    except OSError as error:
        raise UsageError(f"--json {args.json} cannot be written: {error.strerror}") from error


if __name__ == "__main__":
    main()
