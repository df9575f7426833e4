"""What a picture is made of: tickets and the images that they are seen on; and what they are called."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from matplotlib.figure import Figure
from torch import Tensor
from tqdm import tqdm

from utils.command_line.commands.picture import PictureOptions
from utils.command_line.paths import FOLDERS
from utils.data.cifar import load_cifar
from utils.run_folder.headers import preprocessing_of, required
from utils.run_folder.ticket_set import TicketSet, training_part
from utils.training.saved import device, predict
from utils.training.soups import Judge


class Drawn(NamedTuple):
    """A picture, and its numbers for `--json`."""

    figure: Figure
    numbers: object


def open_tickets(options: PictureOptions) -> TicketSet:
    """Raises UsageError where the tickets are not of one model and one data set."""
    return TicketSet(options.tickets, options.data, options.model, density=1.0)  # each has one of its own


def open_images(options: PictureOptions, tickets: TicketSet) -> Judge:
    """The images of the tickets and their network. Raises UsageError where the tickets do not say which."""
    data = required("data", tickets.data)
    limit, fraction = training_part(tickets.headers, options.limit_train, None)
    splits = load_cifar(
        data,
        options.data_dir,
        device(),
        limit_train=limit if options.picture == "line" else 1,  # nothing else needs any
        limit_test=options.limit_test,
        valid_fraction=fraction if options.picture == "line" else 0.0,
        **preprocessing_of(tickets.headers, data),
    )
    return Judge(tickets, splits, choosing=False)


def predictions(options: PictureOptions) -> tuple[Tensor, Tensor]:
    """What the tickets predict, on the CPU: log-probabilities, float64 (tickets, N, classes); labels, int64 (N,)."""
    tickets = open_tickets(options)
    judge = open_images(options, tickets)
    found = []
    for path in tqdm(tickets.paths, "tickets", leave=False, disable=None):
        judge.model.load_state_dict(tickets.read(path))
        found.append(predict(judge.model, judge.test).cpu())
    return torch.stack(found), judge.test.labels.cpu()


def names_of(options: PictureOptions) -> list[str]:
    """What the tickets are called in the picture: as asked for, else by what tells their files apart."""
    return list(options.names) or distinctive(options.tickets)


def run_folder(path: Path) -> Path:
    """The folder of the run that a ticket is of."""
    return path.parent.parent if path.parent.name in ("trajectory", "tickets") else path.parent


def distinctive(paths: Sequence[Path]) -> list[str]:
    """The files without the folders that all of them are in, those within a run folder, and without their ending."""
    parts = [(*(part for part in path.parts[:-1] if part not in FOLDERS), path.name.partition(".safetensors")[0])
             for path in paths]  # fmt: skip
    shared = next((i for i, names in enumerate(zip(*parts, strict=False)) if len(set(names)) > 1), None)
    return ["\n".join(names[-1:] if shared is None else names[shared:]) for names in parts]
