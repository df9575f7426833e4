"""The command line of both entry scripts: groups of options, `--config`, and what does not fit together."""

import argparse
import itertools
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from sparselearning.errors import UsageError
from sparselearning.methods import METHODS
from utils.command_line.config import config_words
from utils.command_line.options import GROUPS, IDLE, NEEDS, PHOTOS, PRUNING, RANGES, REGIMES, SMALL, SWITCHES


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


class Help(argparse.HelpFormatter):
    """Wide enough for the longest option."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=34, width=110)


def parse(recipe: Mapping[str, Any], description: str, argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Defaults of the recipe, then the `--config` file, then the command line.

    Exits with status 2 and one line on stderr when an option is unknown, has no such value or does nothing.
    """
    parser = build_parser(recipe, description)
    given = vars(parser.parse_args(argv))
    try:
        if "config" in given:
            given = {**vars(parser.parse_args(config_words(parser._actions, Path(given["config"])))), **given}
        for switch in SWITCHES:
            recipe = {**recipe, **(REGIMES.get(switch, {}) if given.get(switch) else {})}
        args = argparse.Namespace(**{**recipe, **given})
        if args.num_tickets is not None and "ticket_fraction" not in given:
            args.ticket_fraction = None  # the number goes before the recipe's fraction
        check(args, given)
        if args.prune_rate is None:
            args.prune_rate = METHODS[args.method].prune_rate
        if args.edst:
            set_edst_epochs(args, given)
    except UsageError as error:
        parser.error(str(error))
    return args


def effective(args: argparse.Namespace) -> dict[str, Any]:
    """The options that made a difference: what args.yaml records, and what --config reads back."""
    idle = {"config", "resume", "overwrite", "dry_run"}
    idle |= {name for name, switches in NEEDS.items() if not _any_given(args, switches)}
    idle |= {name for name, pruning in PRUNING.items() if METHODS[args.method].pruning != pruning}
    idle |= set() if args.superpose == "cima" else {"cima_beta"}
    idle |= {name for switches, names, _ in IDLE if _any_given(args, switches) for name in names}
    options = {name: list(value) if isinstance(value, tuple) else value for name, value in vars(args).items()}
    return {name: value for name, value in options.items() if name not in idle and value not in (None, [])}


def check(args: argparse.Namespace, given: Mapping[str, Any]) -> None:
    """Refuse options that would do nothing and numbers that mean nothing.

    Raises:
        UsageError: names the option and the remedy.
    """
    for name, switches in NEEDS.items():
        if name in given and not _any_given(args, switches):
            owners = " or ".join(map(_flag, switches))
            raise UsageError(f"{_flag(name)} does nothing without {owners}: add {owners}, or leave it out")
    on = [name for name in SWITCHES if getattr(args, name)]
    if len(on) > 1:
        raise UsageError(f"{_flag(on[0])} and {_flag(on[1])} are different plans for a run: choose one")
    if args.sparse and (args.snapshot or args.fge):
        raise UsageError(f"{_flag(on[0])} is for dense networks: leave out --sparse, or use --sup-tickets")
    if "cima_beta" in given and args.superpose != "cima":
        raise UsageError("--cima-beta does nothing without --superpose cima")
    for name, pruning in PRUNING.items():
        if name in given and METHODS[args.method].pruning != pruning:
            raise UsageError(
                f"{_flag(name)} does nothing with --method {args.method}: it is for "
                f"{' and '.join(method for method, row in METHODS.items() if row.pruning == pruning)}"
            )
    for plans, idle, why in IDLE:
        for switch, name in itertools.product(plans, idle):
            if name in given and getattr(args, switch):
                raise UsageError(f"{_flag(name)} does nothing with {_flag(switch)}, {why}")
    if args.ensemble and (args.edst or args.snapshot or args.fge):
        raise UsageError(f"{_flag(on[0])} makes an ensemble in one run: leave out --ensemble")
    for names, fits, what in RANGES:
        for name in names:
            value = getattr(args, name, None)
            if value is not None and not all(fits(v) for v in (value if isinstance(value, list | tuple) else [value])):
                raise UsageError(f"{_flag(name)} {value!s:.60} is not {what}")
    if args.ensemble and args.ensemble * (args.seed + 1) > 2**63:
        raise UsageError(f"--seed {args.seed} leaves the runs of --ensemble without seeds: use a smaller one")
    if args.ensemble and args.resume not in (None, "auto"):
        raise UsageError("--ensemble has a checkpoint for each of its runs: use --resume auto")
    if args.lr_low > args.lr_high:
        raise UsageError(f"--lr-low {args.lr_low:g} is above --lr-high {args.lr_high:g}: exchange them")
    if getattr(args, "eval_only", False) != (getattr(args, "ticket", None) is not None):
        raise UsageError("--eval-only and --ticket FILE belong together: give both or neither")


def set_edst_epochs(args: argparse.Namespace, given: Mapping[str, Any]) -> None:
    """With --edst the lengths of the phases add up to --epochs; that alone is divided like the recipe's.

    Raises:
        UsageError: they do not add up, or leave a phase without an epoch.
    """
    lengths = args.exploration_epochs, args.refine_epochs
    whole = lengths[0] + args.num_tickets * lengths[1]
    if "epochs" not in given:
        args.epochs = whole
    elif not {"exploration_epochs", "refine_epochs"} & {*given}:
        args.refine_epochs = args.epochs * lengths[1] // whole
        args.exploration_epochs = args.epochs - args.num_tickets * args.refine_epochs
        if args.refine_epochs < 1:
            raise UsageError(
                f"--epochs {args.epochs} is too short for {args.num_tickets} tickets of --edst: use "
                f"{math.ceil(whole / lengths[1])} or more"
            )
    elif args.epochs != whole:
        raise UsageError(
            f"--exploration-epochs {lengths[0]} and {args.num_tickets} times --refine-epochs {lengths[1]} are {whole} "
            f"epochs, not --epochs {args.epochs}: leave one of them out"
        )


def _any_given(args: argparse.Namespace, switches: Sequence[str]) -> bool:
    return any(getattr(args, switch) for switch in switches)


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def build_parser(recipe: Mapping[str, Any], description: str) -> Parser:
    """All option groups; defaults are shown from the recipe and stay out of the namespace, to tell what was given."""
    parser = Parser(
        prog=Path(sys.argv[0]).name,
        description=description,
        formatter_class=Help,
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
    )
    for title, intro, options in (*GROUPS, PHOTOS if "streaming" in recipe else SMALL):
        group = parser.add_argument_group(title, intro)
        for name, settings in options.items():
            default = recipe.get(name)
            added = "" if default in (None, False, ()) else f" ({shown(default)})"
            group.add_argument(_flag(name), **{**settings, "help": settings["help"] + added})
    return parser


def shown(value: Any) -> str:
    """An option's value as it would be typed."""
    return " ".join(map(str, value)) if isinstance(value, tuple | list) else str(value)
