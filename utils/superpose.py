"""Saved tickets, of one run or of several, superposed into one: averaged, and pruned back to their density.

python -m utils.superpose --tickets runs/NAME/tickets/*.safetensors
python -m utils.superpose --tickets runs/*/ticket.safetensors --greedy --data-dir CIFAR10

In one process, in full precision. It reads no data, so that tickets of main_imagenet.py and of any model of your own
are superposed too, except to choose among them, for batch norm and to evaluate.
"""

from utils.command_line.commands import SuperposeOptions
from utils.command_line.parser import parse
from utils.command_line.program import start

if __name__ == "__main__":  # a mistake is answered before the imports below, which take seconds
    start()
    OPTIONS = parse(SuperposeOptions, __doc__)

import copy
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from tqdm import tqdm

from sparselearning import Superposition, UsageError, take_ticket
from sparselearning.averages import PARAMETERS
from sparselearning.superposition import Ticket
from utils.command_line.errors import one_line_errors
from utils.command_line.options import CifarOptions
from utils.data.cifar import load_cifar
from utils.data.protocol import Images
from utils.evaluate import connections, device, network, predict, write_numbers
from utils.reporting.tables import models_table
from utils.run_folder.headers import Tickets, number, preprocessing_of, required, training_part
from utils.run_folder.tickets import check_same_model, save_ticket
from utils.training.build import averaging
from utils.training.evaluation import recompute_batch_norm
from utils.training.metrics import per_sample, summarize

Row = dict[str, Any]  # of the table


class Bench:
    """The data and the network of the tickets, to judge them by."""

    def __init__(self, options: SuperposeOptions, tickets: Tickets) -> None:
        data, name = required("data", tickets.data), required("model", tickets.model)
        trains = options.greedy or options.bn == "recompute"
        limit, fraction = training_part(options, tickets.headers) if trains else (1, 0.0)
        splits = load_cifar(
            data,
            options.data_dir,
            device(),
            limit_train=limit,
            limit_test=options.limit_test,
            valid_fraction=fraction,
            **preprocessing_of(tickets.headers, data),
        )
        self.test, self.valid = splits.test, splits.valid if options.greedy else None
        seed, epochs = (int(number(tickets.headers[0], name) or 0) for name in ("seed", "epochs"))
        self.order = splits.train.epoch(seed, epochs)  # that would come next, as in a run
        self.model = network(name, splits.num_classes, number(tickets.headers[0], "width") or 1.0)
        check_same_model(tickets.paths[0], tickets.first, self.model.state_dict())

    def metrics(self, ticket: Ticket, images: Images) -> dict[str, float]:
        """The METRICS of a ticket."""
        self.model.load_state_dict(ticket)
        return summarize(per_sample(predict(self.model, images), images.labels))

    def valid_accuracy(self, ticket: Ticket) -> dict[str, float]:
        """On validation images, where there are some to choose by."""
        return {} if self.valid is None else {"valid_accuracy": self.metrics(ticket, self.valid)["accuracy"]}

    def judge(self, ticket: Ticket) -> dict[str, float]:
        return self.metrics(ticket, self.test) | self.valid_accuracy(ticket)

    def recompute(self, ticket: Ticket) -> Ticket:
        """The ticket with the batch-norm statistics of one pass over the training images."""
        self.model.load_state_dict(ticket)
        accelerator = Accelerator(mixed_precision="no", cpu=device().type == "cpu")
        recompute_batch_norm(accelerator, self.model, self.order, CifarOptions.batch_size)
        return {name: tensor.cpu() for name, tensor in take_ticket(self.model.state_dict(), {}).items()}


def greedy(
    rows: list[Row], soup: Superposition, read: Callable[[Path], Ticket], accuracy: Callable[[Superposition], float]
) -> tuple[Superposition, list[Row]]:
    """A greedy soup (Wortsman et al. 2022, Model soups, Recipe 1), of sparse tickets.

    The best ticket, and then one by one each next that leaves the superposition at least as accurate.

    Args:
        rows: one per ticket, with its `file` and its `valid_accuracy`; they get `soup_accuracy`, that of the
            superposition with it, and `kept`.
        soup: a superposition without tickets.
        accuracy: of the superposed ticket on validation images.

    Returns:
        The superposition of the tickets kept, and their rows in the order of its average.
    """
    best, kept = -1.0, []
    for row in tqdm(sorted(rows, key=lambda row: -row["valid_accuracy"]), "choosing", leave=False, disable=None):
        trial = copy.deepcopy(soup)
        trial.add(read(Path(row["file"])))
        row["soup_accuracy"] = accuracy(trial)
        row["kept"] = row["soup_accuracy"] >= best
        if row["kept"]:
            soup, best = trial, row["soup_accuracy"]
            kept.append(row)
    return soup, kept


def superpose(options: SuperposeOptions) -> dict[str, Any]:
    """Save the superposition of the tickets; returns the content of `--json`.

    Raises:
        UsageError: the tickets do not fit each other, or the options them.
    """
    tickets = Tickets(options)
    bench = Bench(options, tickets) if options.reads_data else None
    recompute = bench.recompute if bench and options.bn == "recompute" else None
    finish: Callable[[Ticket], Ticket] = recompute or (lambda ticket: ticket)

    def measure(file: str, ticket: Ticket) -> Row:
        judged = bench.judge(ticket) if bench else {}
        return {"file": file, **connections(ticket[name] for name in tickets.names), **judged}

    soup = Superposition(tickets.names, tickets.count, **averaging(options))
    rows = []
    for path in tqdm(tickets.paths, "tickets", leave=False, disable=None):
        ticket = tickets.read(path)
        rows.append(measure(str(path), ticket))
        if not options.greedy:
            soup.add(ticket)
    used = rows
    if bench and options.greedy:
        valid = bench.valid_accuracy
        soup, used = greedy(rows, soup, tickets.read, lambda trial: valid(finish(trial.ticket()))["valid_accuracy"])
    ticket = finish(soup.ticket())
    about = {
        "data": tickets.data,
        "model": tickets.model,
        "density": tickets.density,
        "exempt": tickets.exempt,
        "superpose": options.superpose,
        **{f"{method}_{name}": getattr(options, f"{method}_{name}") if method == options.superpose else None
           for name, (method, _) in PARAMETERS.items()},
        "prune_average": options.prune_average,
        "bn": options.bn,
        "greedy": options.greedy,
    }
    files = " ".join(row["file"] for row in used)
    try:
        save_ticket(options.output, ticket, {**tickets.header(), "phase": None, **about, "tickets": files})
    except OSError as error:
        raise UsageError(f"--output {options.output} cannot be written: {error.strerror}") from error
    return {"output": str(options.output), **about, "tickets": rows, "superposed": measure("superposed", ticket)}


def report(summary: Mapping[str, Any]) -> None:
    """Print the table; on stderr a warning, where the tickets do not go together."""
    superposed, tickets = summary["superposed"], summary["tickets"]
    used = [row for row in tickets if row.get("kept", True)]
    print(models_table("ticket", [(row["file"], row) for row in [*tickets, superposed]]))
    print(f"{len(used)} of {len(tickets)} tickets superposed in {summary['output']}")
    if "accuracy" in superposed and superposed["accuracy"] < (worst := min(row["accuracy"] for row in used)):
        print(
            f"warning: the superposition is worse ({superposed['accuracy']:.2f} %) than each of its tickets "
            f"({worst:.2f} % or more): they may lie in different basins; --greedy chooses those that go together",
            file=sys.stderr,
        )


@one_line_errors()
def main(options: SuperposeOptions) -> None:
    summary = superpose(options)
    report(summary)
    write_numbers(options.json, summary)


if __name__ == "__main__":
    main(OPTIONS)
