"""Which tickets to superpose: each judged on images, and a greedy soup of those that go together."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from sparselearning import Superposition, take_ticket
from sparselearning.superposition import Ticket
from utils.command_line.options import CifarOptions
from utils.data.protocol import Images, Splits
from utils.run_folder.contents import Numbers
from utils.run_folder.headers import required
from utils.run_folder.ticket_set import TicketSet
from utils.run_folder.tickets import check_same_model
from utils.training.evaluation import recompute_batch_norm
from utils.training.metrics import SCORE, per_sample, summarize
from utils.training.saved import alone, network, predict


class Row(NamedTuple):
    """A ticket in the table, and in what `--json` writes."""

    file: str
    numbers: Numbers

    def content(self) -> dict[str, str | float]:
        return {"file": self.file, **self.numbers}


class Judge:
    """The images and the network of tickets, to judge them by.

    Args:
        tickets: of one model.
        data: those that they were trained on.
        choosing: are tickets chosen, by validation images that none was trained on?
    """

    def __init__(self, tickets: TicketSet, data: Splits, choosing: bool) -> None:
        first, name = tickets.headers[0], required("model", tickets.model)
        self.test, self.valid = data.test, data.valid if choosing else None
        self.model = network(name, data.num_classes, first.width or 1.0, tickets.efficient_ensemble)
        check_same_model(tickets.paths[0], tickets.first, self.model.state_dict())
        self.order = data.train.epoch(first.seed or 0, first.epochs or 0)  # that would come next, as in a run

    def metrics(self, ticket: Ticket, images: Images) -> Numbers:
        """The METRICS of a ticket."""
        self.model.load_state_dict(ticket)
        return summarize(per_sample(predict(self.model, images), images.labels))

    def valid_score(self, ticket: Ticket) -> float:
        """SCORE on the validation images."""
        assert self.valid is not None
        return self.metrics(ticket, self.valid)[SCORE]

    def judge(self, ticket: Ticket) -> Numbers:
        """METRICS on the test images, and where tickets are chosen `valid_accuracy`."""
        own = {} if self.valid is None else {f"valid_{SCORE}": self.valid_score(ticket)}
        return self.metrics(ticket, self.test) | own

    def recompute(self, ticket: Ticket) -> Ticket:
        """The ticket with the batch-norm statistics of one pass over the training images."""
        self.model.load_state_dict(ticket)
        recompute_batch_norm(alone(), self.model, self.order, CifarOptions.batch_size)
        return {name: tensor.cpu() for name, tensor in take_ticket(self.model.state_dict(), {}).items()}


def greedy(
    rows: list[Row], soup: Superposition, read: Callable[[Path], Ticket], accuracy: Callable[[Superposition], float]
) -> tuple[Superposition, list[Row]]:
    """A greedy soup (Wortsman et al. 2022, Model soups, Recipe 1), of sparse tickets.

    The best ticket, and then one by one each next that leaves the superposition at least as accurate.

    Args:
        rows: one per ticket, with its `valid_accuracy`; they get `soup_accuracy`, that of the superposition with it,
            and `kept`.
        soup: a superposition without tickets.
        accuracy: of the superposed ticket on validation images.

    Returns:
        The superposition of the tickets kept, and their rows in the order of its average.
    """
    best, kept = -1.0, []
    best_first = sorted(rows, key=lambda row: -row.numbers["valid_accuracy"])
    for row in tqdm(best_first, "choosing", leave=False, disable=None):
        trial = copy.deepcopy(soup)
        trial.add(read(Path(row.file)))
        with_it = row.numbers["soup_accuracy"] = accuracy(trial)
        row.numbers["kept"] = with_it >= best
        if with_it >= best:
            soup, best = trial, with_it
            kept.append(row)
    return soup, kept
