"""Tickets and the test images that they belong to, opened for evaluation."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from accelerate import Accelerator

from sparselearning.errors import UsageError
from utils.command_line.commands.evaluate import EvaluateOptions
from utils.data.cifar import load_cifar
from utils.data.imagenet import load_imagenet, spare_cores
from utils.data.other_sets import OtherSets
from utils.data.protocol import Splits
from utils.evaluations.subject import Subject
from utils.run_folder.headers import TicketHeader, agreed, parse_header, preprocessing_of, required
from utils.run_folder.tickets import load_ticket, read_ticket
from utils.training.networks import LARGE_SIDE, Builder, builder_for


class Opened(NamedTuple):
    """What `--tickets` names: networks, their headers, their names, and that of the data."""

    subject: Subject
    headers: list[TicketHeader]
    names: list[str]
    data: str


def open_tickets(options: EvaluateOptions, accelerator: Accelerator) -> Opened:
    """The networks of the tickets, on the device, and the test images that they belong to.

    Raises:
        UsageError: a ticket or the data cannot be read, or they do not go together.
    """
    headers = [parse_header(path) for path in options.tickets]
    data = required("data", agreed("data", [header.data for header in headers], options.data))
    names = [required("model", options.model or header.model) for header in headers]
    first = options.tickets[0]
    large = builder_for(first, read_ticket(first), headers[0], options.model, options.image_size).large
    splits = load(options, headers, data, large, accelerator.device)
    models = []
    for path, name, header in zip(options.tickets, names, headers, strict=True):
        side, width = splits.test.side, header.width or 1.0
        model = Builder(name, splits.num_classes, width, large, side, header.efficient_ensemble).build()
        model.load_state_dict(load_ticket(path, model.state_dict()))
        models.append(model.to(accelerator.device).to(memory_format=torch.channels_last).eval())
    workers = spare_cores() if options.workers is None else options.workers
    sets = OtherSets(splits.test, splits.classes, workers, options.limit_test)
    return Opened(Subject(accelerator, models, sets), headers, names, data)


def load(
    options: EvaluateOptions, headers: Sequence[TicketHeader], data: str, large: bool, device: torch.device
) -> Splits:
    """The data of the tickets, of which the training images are not needed."""
    limit, folder = options.limit_test, options.data_dir
    if large:
        side, workers = options.image_size or LARGE_SIDE, options.workers
        return load_imagenet(
            data, folder, device, image_size=side, batch_size=1, workers=workers, limit_train=1, limit_test=limit
        )
    if options.image_size:
        raise UsageError("--image-size is for large images; the tickets say what small ones are like: leave it out")
    return load_cifar(data, folder, device, limit_train=1, limit_test=limit, **preprocessing_of(headers, data))
