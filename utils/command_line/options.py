"""The options of both entry scripts: the groups together, the recipes of the papers, and what a run records of them."""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self, get_type_hints

from sparselearning.errors import UsageError
from sparselearning.phases import cyclic_epochs
from utils.command_line.config import read_mapping
from utils.command_line.efficient_options import EfficientEnsembleOptions
from utils.command_line.ending_options import EndingOptions
from utils.command_line.image_options import DataOptions, ImageOptions, LargeImageOptions, SmallImageOptions
from utils.command_line.rows import Setting, defaults, derived, does_nothing, flag, option, rows
from utils.command_line.run_options import PRECISIONS, ImageNetRunOptions, ModelOptions, RunOptions
from utils.command_line.sparse_options import REGIMES, AveragingOptions, EnsembleOptions, SparseOptions, TicketOptions
from utils.files.typed import checked, mismatch

__all__ = [
    "ENDING",
    "NAMES",
    "PRECISIONS",
    "REGIMES",
    "AveragingOptions",
    "CifarOptions",
    "DataOptions",
    "EnsembleOptions",
    "ImageNetOptions",
    "ImageOptions",
    "LargeImageOptions",
    "ModelOptions",
    "Options",
    "RunOptions",
    "SmallImageOptions",
    "SparseOptions",
    "TicketOptions",
    "changes_results",
    "defaults",
    "effective",
    "recipe_of",
    "recorded",
]


@dataclass(frozen=True, kw_only=True)
class Options(
    DataOptions,
    ImageOptions,
    ModelOptions,
    SparseOptions,
    TicketOptions,
    AveragingOptions,
    EnsembleOptions,
    EfficientEnsembleOptions,
    EndingOptions,
    RunOptions,
):
    """All options that the entry scripts share, their defaults those of the papers on CIFAR."""

    @property
    def tickets(self) -> int:
        """How many tickets the phases of the run end in. Raises UsageError where they do not fit the epochs."""
        if self.sup_tickets or self.fge:
            cyclic = cyclic_epochs(self.epochs, self.cycle_epochs, self.num_tickets, self.ticket_fraction)
            return cyclic // self.cycle_epochs
        return self.num_tickets or 0

    @property
    def normal_epochs(self) -> int:
        """The length of the normal phase, before cycles or --continue-epochs. Raises UsageError as `tickets`."""
        cyclic = self.sup_tickets or self.fge
        return self.epochs - (self.tickets * self.cycle_epochs if cyclic else self.continue_epochs or 0)

    def checked(self, given: Collection[str]) -> Self:
        regimes = [name for name in REGIMES if getattr(self, name)]
        if len(regimes) > 1:
            raise UsageError(f"{flag(regimes[0])} and {flag(regimes[1])} are different plans for a run: choose one")
        if self.sparse and (self.snapshot or self.fge):
            raise UsageError(f"{flag(regimes[0])} is for dense networks: leave out --sparse, or use --sup-tickets")
        if self.ensemble and (self.edst or self.snapshot or self.fge):
            raise UsageError(f"{flag(regimes[0])} makes an ensemble in one run: leave out --ensemble")
        if self.ensemble and self.ensemble * (self.seed + 1) > 2**63:
            raise UsageError(f"--seed {self.seed} leaves the runs of --ensemble without seeds: use a smaller one")
        if self.ensemble and self.resume not in (None, "auto"):
            raise UsageError("--ensemble has a checkpoint for each of its runs: use --resume auto")
        if self.lr_low > self.lr_high:
            raise UsageError(f"--lr-low {self.lr_low:g} is above --lr-high {self.lr_high:g}: exchange them")
        options = self._with_edst_epochs(given)
        if self.num_tickets is not None and "ticket_fraction" not in given:
            options = replace(options, ticket_fraction=None)  # the recipe's, before which the number goes
        options = options._with_normal_phase_of(options.start_from, given) if options.start_from else options
        if options.normal_epochs < 1:
            raise UsageError(f"--continue-epochs {self.continue_epochs} leaves no others of --epochs {self.epochs}")
        return options

    def _with_normal_phase_of(self, run: str, given: Collection[str]) -> Self:
        """With --start-from the epochs are those of that run's normal phase and those of this one's ending.

        Raises:
            UsageError: there is no such run, or lengths that are given are others.
        """
        source, cyclic = _run_with_normal_phase(run), self.sup_tickets or self.fge
        if not cyclic and not self.continue_epochs:
            raise UsageError("--start-from is for a run that goes on: add --sup-tickets, --fge or --continue-epochs N")
        tickets = self.num_tickets
        if cyclic and (tickets is None or self.ticket_fraction is not None):
            fitting = cyclic_epochs(source.epochs, self.cycle_epochs, tickets, self.ticket_fraction)
            tickets = fitting // self.cycle_epochs
        ending = (tickets or 0) * self.cycle_epochs if cyclic else self.continue_epochs or 0
        whole = source.parts_of or source.epochs
        epochs = source.normal_epochs + ending
        for name, value in (("epochs", epochs), ("parts_of", whole)):
            if name in given and getattr(self, name) != value:
                raise UsageError(
                    f"{flag(name)} {getattr(self, name)} does not go with the normal phase of {run}, which has "
                    f"{source.normal_epochs} epochs, and an ending of {ending}: use {value}, or leave it out"
                )
        return replace(self, epochs=epochs, parts_of=whole, num_tickets=tickets, ticket_fraction=None)

    def _with_edst_epochs(self, given: Collection[str]) -> Self:
        """With --edst the lengths of the phases add up to --epochs; that alone is divided like the recipe's.

        Raises:
            UsageError: they do not add up, or leave a phase without an epoch.
        """
        if not self.edst:
            return self
        exploration, refine, tickets = self.exploration_epochs, self.refine_epochs, self.tickets
        whole = exploration + tickets * refine
        if "epochs" not in given:
            return replace(self, epochs=whole)
        if not {"exploration_epochs", "refine_epochs"} & {*given}:
            refine = self.epochs * refine // whole
            if refine < 1:
                raise UsageError(
                    f"--epochs {self.epochs} is too short for {tickets} tickets of --edst: use "
                    f"{math.ceil(whole / self.refine_epochs)} or more"
                )
            return replace(self, refine_epochs=refine, exploration_epochs=self.epochs - tickets * refine)
        if self.epochs != whole:
            raise UsageError(
                f"--exploration-epochs {exploration} and {tickets} times --refine-epochs {refine} are {whole} "
                f"epochs, not --epochs {self.epochs}: leave one of them out"
            )
        return self


@dataclass(frozen=True, kw_only=True)
class CifarOptions(SmallImageOptions, Options):
    """Those of main_cifar.py."""

    program = "main_cifar.py"


def _data_name(options: DataOptions) -> str:
    return Path(options.data_dir).resolve().name if options.data_dir else "ILSVRC/imagenet-1k"


@dataclass(frozen=True, kw_only=True)
class ImageNetOptions(LargeImageOptions, ImageNetRunOptions, Options):
    """Those of main_imagenet.py, and what the papers change on ImageNet."""

    program = "main_imagenet.py"

    data: str = derived(_data_name, "a data set of the Hub (the name of --data-dir, else ILSVRC/imagenet-1k)",
                        metavar="NAME")  # fmt: skip
    model: str = option("resnet50", "any classifier of torchvision", metavar="NAME")
    epochs: int = 100
    lr_drops: tuple[float, ...] = (0.3, 0.6, 0.85)
    lr_parts: str = "run"
    warmup: float = 0.05
    weight_decay: float = 1e-4
    norm_weight_decay: float | None = 0.0
    label_smoothing: float = 0.1
    update_limit: int = 4000
    prune_rate_decay: str = "cosine"
    prune_end: float = 30 / 100
    cycle_epochs: int = 2
    ticket_fraction: float | None = 0.08
    lr_low: float = 1e-4
    lr_high: float = 5e-4
    exploration_epochs: int = 30
    refine_epochs: int = 70

    def checked(self, given: Collection[str]) -> Self:
        if self.eval_only != (self.ticket is not None):
            raise UsageError("--eval-only and --ticket FILE belong together: give both or neither")
        return super().checked(given)


ROWS = {**rows(CifarOptions), **rows(ImageNetOptions)}
NAMES = frozenset(ROWS)  # of the options of both
# what makes no difference to a run before the end of its normal phase, beside the length of that and the seed
ENDING = frozenset(("epochs", "seed", *REGIMES, *rows(EndingOptions), *rows(TicketOptions), *rows(AveragingOptions)))


def changes_results(name: str, *, parts: bool = True) -> bool:
    """Does another value of the option change what a run computes?

    Args:
        parts: do those count that change how a batch is cut into parts? As long as the whole batch keeps its size, that
            makes a difference only where data is streamed, in whose order it shows.
    """
    return name not in ROWS or ROWS[name].changes == "results" or (parts and ROWS[name].changes == "parts")


def effective(options: Options) -> dict[str, Setting]:
    """The options that made a difference: what args.yaml records, and what --config reads back."""
    values = {
        name: getattr(options, name)
        for name, row in rows(type(options)).items()
        if row.recorded and not does_nothing(row, options)
    }
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in values.items()
        if value not in (None, ())
    }


def recipe_of(options: Mapping[str, Setting]) -> type[Options]:
    """The recipe that the recorded options of a run are changes of."""
    return ImageNetOptions if "eval_only" in options else CifarOptions


def _run_with_normal_phase(folder: str) -> Options:
    """The options of the run that --start-from names. Raises UsageError where it is none, or has no normal phase."""
    file = Path(folder) / "args.yaml"
    if not file.is_file():
        raise UsageError(f"--start-from {folder} is not the folder of a run: it holds no args.yaml")
    try:
        source = recorded(checked(read_mapping(file, str(file)), dict[str, Setting], file.name))
        valid = source.normal_epochs >= 1
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(f"{file} is not of a run with a normal phase: {' '.join(str(error).split())}") from error
    if not valid or source.edst or source.snapshot:
        raise UsageError(f"--start-from {folder} is a run without a normal phase: take one without --edst, --snapshot")
    return source


def recorded(options: Mapping[str, Setting]) -> Options:
    """The options of a run from what it recorded: others are as by default, unknown ones left out; or UsageError."""
    kind = recipe_of(options)
    types, values = get_type_hints(kind), {name: value for name, value in options.items() if name in rows(kind)}
    for name, value in values.items():
        if value is not None and (problem := mismatch(value, types[name], name)):
            raise UsageError(problem)
    own = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    return kind(**own)  # type: ignore[arg-type]  # whose types have just been looked at
