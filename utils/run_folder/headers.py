"""Several saved tickets of one model: what they say of themselves, where they have to agree, and what they prune."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import torchvision
from torch import nn

from models import MODELS, build, classifiers
from sparselearning.distributions import total_count
from sparselearning.errors import UsageError
from sparselearning.layers import maskable_weights
from sparselearning.superposition import Ticket
from sparselearning.tickets import read_header
from utils.command_line.commands import SuperposeOptions
from utils.data.recipes import PREPROCESSING, RECIPES, Preprocessing
from utils.run_folder.tickets import check_same_model, read_ticket

Header = Mapping[str, str]


class Tickets:
    """Saved tickets of one model, read one at a time.

    Args:
        options: `tickets`, and `data`, `model`, `density` where given; else the headers say.

    Attributes:
        names, count: the maskable weights, and round(density · N), how many of them a ticket keeps.

    Raises:
        UsageError: they do not agree with each other or with the options.
    """

    def __init__(self, options: SuperposeOptions) -> None:
        self.paths = options.tickets
        self.headers = [read_header(path) for path in self.paths]
        self.data, self.model = (agreed(self.headers, name, getattr(options, name)) for name in ("data", "model"))
        self.density = common_density(self.headers) if options.density is None else options.density
        self.first = read_ticket(self.paths[0])
        self.exempt = agreed(self.headers, "exempt")
        self.names = maskable_names(self.first, self.model, (self.exempt or "").split())
        self.count = total_count({name: tuple(self.first[name].shape) for name in self.names}, self.density)

    def read(self, path: Path) -> Ticket:
        ticket = read_ticket(path)
        check_same_model(path, ticket, self.first)
        return ticket

    def header(self) -> dict[str, str]:
        """What the headers share; a training part only where it is the same for all."""
        first, *others = self.headers
        shared = {key: value for key, value in first.items() if all(header.get(key) == value for header in others)}
        if len(trained_on(self.headers)) > 1:
            shared.pop("valid_fraction", None)
        return shared


def agreed(headers: Iterable[Header], name: str, given: str | None = None) -> str | None:
    """What the option says, else those headers that say something. Raises UsageError where they disagree."""
    said = {header[name] for header in headers if name in header} if given is None else {given}
    if len(said) > 1:
        raise UsageError(f"the tickets have different {name}, {' and '.join(sorted(said))}: take those of one only")
    return said.pop() if said else None


def preprocessing_of(headers: Sequence[Header], data: str) -> Preprocessing:
    """How the tickets' images came, for `load_cifar`; older tickets are of data sets whose recipe is known.

    Raises:
        UsageError: they do not agree, or do not say it of images that are not known.
    """
    said = {name: agreed(headers, name) for name in PREPROCESSING}
    if data not in RECIPES and said["mean"] is None:
        raise UsageError(
            f"unknown --data {data}: it is none of {', '.join(RECIPES)}, and the tickets do not say how its images "
            f"come; large images are for main_imagenet.py --eval-only"
        )
    side = said["image_size"]
    mean, std = ([float(part) for part in (said[name] or "").split()] or None for name in ("mean", "std"))
    return Preprocessing(
        image_size=int(side) if side else None, mean=mean, std=std, flip=said["flip"], label_column=said["label_column"]
    )


def required(name: str, said: str | None) -> str:
    if said is None:
        raise UsageError(f"a ticket does not say what {name} it is for: add --{name}")
    return said


def number(header: Header, name: str) -> float | None:
    """None where the header does not say it."""
    try:
        return float(header[name]) if name in header else None
    except ValueError as error:
        raise UsageError(f"a ticket says that its {name} is {header[name]!r}, which is no number") from error


def common_density(headers: Iterable[Header]) -> float:
    said = {number(header, "density") for header in headers}
    known = sorted(density for density in said if density is not None)
    if len(said) > 1 or not known:
        what = f"have densities {' and '.join(map(str, known))}" if len(known) > 1 else "do not all say their density"
        raise UsageError(f"the tickets {what}: add --density")
    return known[0]


def trained_on(headers: Iterable[Header]) -> set[tuple[float | None, float | None]]:
    """(limit_train, valid_fraction) of every run, which together tell the images that it was trained on."""
    return {(number(header, "limit_train"), number(header, "valid_fraction")) for header in headers}


def training_part(options: SuperposeOptions, headers: Iterable[Header]) -> tuple[int | None, float]:
    """(limit_train, valid_fraction) that part the training images as the tickets' runs did.

    Raises:
        UsageError: --greedy is to choose by images that no ticket was trained on, and there are none, or others than
            --limit-train and --valid-fraction ask for.
    """
    said = trained_on(headers)
    if len(said) > 1 and options.greedy:
        raise UsageError("--greedy needs tickets trained on the same images: train all with --valid-fraction 0.1")
    limit, fraction = said.pop() if len(said) == 1 else (None, None)
    if fraction is None:  # then the user knows
        limit, fraction = options.limit_train, options.valid_fraction
    if options.greedy:
        if fraction is None:
            raise UsageError("the tickets do not say what they held out to choose by: add their --valid-fraction")
        if fraction == 0:
            raise UsageError("the tickets held out no images to choose by: train with --valid-fraction 0.1")
        for flag, given, own in (
            ("--valid-fraction", options.valid_fraction, fraction),
            ("--limit-train", options.limit_train, limit),
        ):
            if given not in (None, own):
                raise UsageError(f"{flag} {given} is not what the tickets were trained with: leave it out")
    limit = limit if options.limit_train is None else options.limit_train
    return None if limit is None else int(limit), fraction or 0.0


def networks(name: str) -> Iterator[nn.Module]:
    """Those of this name, CIFAR's and torchvision's; the number of classes makes no difference to names."""
    if name in MODELS:
        yield build(name, 10)
    if name not in MODELS or name in torchvision.models.list_models(module=torchvision.models):
        yield classifiers.build(name, 1000, 224)


def maskable_names(ticket: Ticket, model: str | None, exempt: Sequence[str]) -> list[str]:
    """The weights to prune: of the model's layers; without a model, every `weight` of two dimensions or more.

    Raises:
        UsageError: the tensors are not those of the model, or there are none to prune.
    """
    if model is not None:
        for candidate in networks(model):
            if candidate.state_dict().keys() == ticket.keys():
                return list(maskable_weights(candidate, exempt))
        raise UsageError(f"the tickets belong to another model than {model}: name the right one with --model")
    names = [name for name, tensor in ticket.items() if name.endswith("weight") and tensor.ndim > 1]
    if not names:
        raise UsageError("the tickets hold no convolution or linear weights: name their model with --model")
    return names
