"""Several saved tickets of one model: where they have to agree, and which of their weights are pruned."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import torchvision
from torch import nn

from models import MODELS, build, classifiers
from models.ensembles import Ensemble
from sparselearning.distributions import total_count
from sparselearning.errors import UsageError
from sparselearning.layers import maskable_weights
from sparselearning.superposition import Ticket
from sparselearning.tickets import read_header
from utils.run_folder.headers import TicketHeader, agreed, parse_header
from utils.run_folder.tickets import check_same_model, read_ticket


class TicketSet:
    """Saved tickets of one model, read one at a time.

    Args:
        paths: their files.
        data, model, density: override the headers of all; None: the headers decide.

    Attributes:
        headers: one per file.
        first: the first ticket.
        names, count: the maskable weights, and round(density · N), how many of them a ticket keeps.

    Raises:
        UsageError: they do not agree with each other or with what is given.
    """

    def __init__(self, paths: Sequence[Path], data: str | None, model: str | None, density: float | None) -> None:
        self.paths, self.headers = paths, [parse_header(path) for path in paths]
        self.data = agreed("data", [header.data for header in self.headers], data)
        self.model = agreed("model", [header.model for header in self.headers], model)
        self.density = common_density(self.headers) if density is None else density
        self.efficient_ensemble = agreed("efficient_ensemble", [header.efficient_ensemble for header in self.headers])
        self.first = read_ticket(paths[0])
        self.exempt = agreed("exempt", [header.exempt for header in self.headers])
        exempt = (self.exempt or "").split()
        self.names = maskable_names(self.first, self.model, exempt, self.efficient_ensemble)
        self.count = total_count({name: tuple(self.first[name].shape) for name in self.names}, self.density)

    def read(self, path: Path) -> Ticket:
        ticket = read_ticket(path)
        check_same_model(path, ticket, self.first)
        return ticket

    def shared_header(self) -> dict[str, str]:
        """What the headers share; a training part only where it is the same for all."""
        first, *others = [read_header(path) for path in self.paths]
        shared = {key: word for key, word in first.items() if all(header.get(key) == word for header in others)}
        if len({header.training_part for header in self.headers}) > 1:
            shared.pop("valid_fraction", None)
        return shared


def common_density(headers: Sequence[TicketHeader]) -> float:
    """The density of all tickets. Raises UsageError where they have several, or a header lacks it."""
    said = {header.density for header in headers}
    known = sorted(density for density in said if density is not None)
    if len(said) > 1 or not known:
        what = f"have densities {' and '.join(map(str, known))}" if len(known) > 1 else "do not all say their density"
        raise UsageError(f"the tickets {what}: add --density")
    return known[0]


def training_part(
    headers: Sequence[TicketHeader], limit_train: int | None, valid_fraction: float | None
) -> tuple[int | None, float]:
    """(limit_train, valid_fraction) that split the training images as in the tickets' runs; given values override them.

    Where the headers disagree or lack it, and nothing is given, all training images are used.
    """
    said = {header.training_part for header in headers}
    limit, fraction = said.pop() if len(said) == 1 else (None, None)
    if fraction is None:
        limit, fraction = limit_train, valid_fraction
    return limit if limit_train is None else limit_train, fraction or 0.0


def held_out_part(
    headers: Sequence[TicketHeader], limit_train: int | None, valid_fraction: float | None
) -> tuple[int | None, float]:
    """As `training_part`, where the part that is held out is to choose tickets by.

    Raises:
        UsageError: every image was used for training, or the given values contradict the headers.
    """
    said = {header.training_part for header in headers}
    if len(said) > 1:
        raise UsageError("--greedy needs tickets trained on the same images: train all with --valid-fraction 0.1")
    ((limit, fraction),) = said
    if fraction is None and valid_fraction is None:
        raise UsageError("the tickets do not say what they held out to choose by: add their --valid-fraction")
    if not (valid_fraction if fraction is None else fraction):
        raise UsageError("the tickets held out no images to choose by: train with --valid-fraction 0.1")
    for flag, given, own in (("--valid-fraction", valid_fraction, fraction), ("--limit-train", limit_train, limit)):
        if fraction is not None and given not in (None, own):
            raise UsageError(f"{flag} {given} is not what the tickets were trained with: leave it out")
    return training_part(headers, limit_train, valid_fraction)


def networks(name: str, kind: Ensemble | None) -> Iterator[nn.Module]:
    """Those of this name, CIFAR's and torchvision's; the number of classes makes no difference to names."""
    if name in MODELS:
        yield build(name, 10, ensemble=kind)
    if name not in MODELS or name in torchvision.models.list_models(module=torchvision.models):
        yield classifiers.build(name, 1000, 224, ensemble=kind)


def maskable_names(
    ticket: Ticket, model: str | None, exempt: Sequence[str], kind: Ensemble | None = None
) -> list[str]:
    """The weights to prune: of the model's layers; without a model, every `weight` of two dimensions or more.

    Raises:
        UsageError: the tensors are not those of the model, or there are none to prune.
    """
    if model is not None:
        for candidate in networks(model, kind):
            if candidate.state_dict().keys() == ticket.keys():
                return list(maskable_weights(candidate, exempt))
        raise UsageError(f"the tickets belong to another model than {model}: name the right one with --model")
    names = [name for name, tensor in ticket.items() if name.endswith("weight") and tensor.ndim > 1]
    if not names:
        raise UsageError("the tickets hold no convolution or linear weights: name their model with --model")
    return names
