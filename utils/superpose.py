"""Saved tickets, of one run or of several, superposed into one: averaged, and pruned back to their density.

python -m utils.superpose --tickets runs/NAME/tickets/*.safetensors
python -m utils.superpose --tickets runs/*/ticket.safetensors --greedy --data-dir CIFAR10

In one process, in full precision. It reads no data, so that tickets of main_imagenet.py and of any model of your own
are superposed too, except to choose among them, for batch norm and to evaluate.
"""

from utils.command_line.commands.superpose import SuperposeOptions
from utils.command_line.parser import parse
from utils.command_line.program import start

if __name__ == "__main__":  # a mistake is answered before the imports below, which take seconds
    start()
    OPTIONS = parse(SuperposeOptions, __doc__)

import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from sparselearning import Superposition
from sparselearning.averages import PARAMETERS, option_name
from sparselearning.superposition import Ticket
from utils.command_line.errors import one_line_errors
from utils.command_line.paths import writing
from utils.command_line.rows import Setting
from utils.data.cifar import load_cifar
from utils.files.whole import write_json
from utils.reporting.tables import models_table
from utils.run_folder.headers import preprocessing_of, required
from utils.run_folder.ticket_set import TicketSet, held_out_part, training_part
from utils.run_folder.tickets import save_ticket
from utils.training.build import averaging
from utils.training.metrics import METRICS, SCORE
from utils.training.saved import connections, device
from utils.training.soups import Judge, Row, greedy


class Outcome(NamedTuple):
    """What is superposed, how, and with what result.

    Attributes:
        about: the options that made a difference, by name.
        tickets: a row for each of them.
    """

    output: Path
    about: dict[str, Setting]
    tickets: list[Row]
    superposed: Row

    def content(self) -> dict[str, object]:
        """That of `--json`."""
        rows = [row.content() for row in self.tickets]
        return {"output": str(self.output), **self.about, "tickets": rows, "superposed": self.superposed.content()}


def make_judge(options: SuperposeOptions, tickets: TicketSet) -> Judge:
    """The images that the options ask for. Raises UsageError where the tickets do not say which, or do not fit."""
    limit: int | None = 1  # of the training images, which nothing else needs
    fraction = 0.0
    if options.greedy or options.bn == "recompute":
        part = held_out_part if options.greedy else training_part
        limit, fraction = part(tickets.headers, options.limit_train, options.valid_fraction)
    data = required("data", tickets.data)
    splits = load_cifar(
        data,
        options.data_dir,
        device(),
        limit_train=limit,
        limit_test=options.limit_test,
        valid_fraction=fraction,
        **preprocessing_of(tickets.headers, data),
    )
    return Judge(tickets, splits, choosing=options.greedy)


def superpose(options: SuperposeOptions) -> Outcome:
    """Save the superposition of the tickets.

    Raises:
        UsageError: the tickets do not fit each other, or the options them.
    """
    tickets = TicketSet(options.tickets, options.data, options.model, options.density)
    judge = make_judge(options, tickets) if options.reads_data else None
    recompute = judge.recompute if judge and options.bn == "recompute" else None
    finish: Callable[[Ticket], Ticket] = recompute or (lambda ticket: ticket)

    def measure(file: str, ticket: Ticket) -> Row:
        judged = judge.judge(ticket) if judge else {}
        return Row(file, connections(ticket[name] for name in tickets.names) | judged)

    soup = Superposition(
        tickets.names, tickets.count, options.superpose, options.prune_average, **averaging(options)
    )
    rows = []
    for path in tqdm(tickets.paths, "tickets", leave=False, disable=None):
        ticket = tickets.read(path)
        rows.append(measure(str(path), ticket))
        if not options.greedy:
            soup.add(ticket)
    used = rows
    if judge and options.greedy:
        score = judge.valid_score
        soup, used = greedy(rows, soup, tickets.read, lambda trial: score(finish(trial.ticket())))
    ticket, about = finish(soup.ticket()), describe(options, tickets)
    files = " ".join(row.file for row in used)
    with writing("--output", options.output):
        save_ticket(options.output, ticket, {**tickets.shared_header(), "phase": None, **about, "tickets": files})
    return Outcome(options.output, about, rows, measure("superposed", ticket))


def describe(options: SuperposeOptions, tickets: TicketSet) -> dict[str, Setting]:
    """What is superposed, and how: a part of the header of the ticket, and of `--json`."""
    used = {option_name(name): method == options.superpose for name, (method, _) in PARAMETERS.items()}
    return {
        "data": tickets.data,
        "model": tickets.model,
        "density": tickets.density,
        "exempt": tickets.exempt,
        "superpose": options.superpose,
        **{option: getattr(options, option) if does_something else None for option, does_something in used.items()},
        "prune_average": options.prune_average,
        "bn": options.bn,
        "greedy": options.greedy,
    }


def report(outcome: Outcome) -> None:
    """Print the table; on stderr a warning, where the tickets do not go together."""
    used = [numbers for _, numbers in outcome.tickets if numbers.get("kept", True)]
    print(models_table("ticket", [*outcome.tickets, outcome.superposed]))
    print(f"{len(used)} of {len(outcome.tickets)} tickets superposed in {outcome.output}")
    superposed = outcome.superposed.numbers
    if SCORE in superposed and superposed[SCORE] < (worst := min(numbers[SCORE] for numbers in used)):
        own, others = map(METRICS[SCORE].text, (superposed[SCORE], worst))
        print(
            f"warning: the superposition is worse ({own}) than each of its tickets ({others} or more): they may lie in "
            f"different basins; --greedy chooses those that go together",
            file=sys.stderr,
        )


@one_line_errors()
def main(options: SuperposeOptions) -> None:
    outcome = superpose(options)
    report(outcome)
    if options.json:
        with writing("--json", options.json):
            write_json(options.json, outcome.content())


if __name__ == "__main__":
    main(OPTIONS)
