"""The command line of both entry scripts: groups of options, `--config`, and what does not fit together."""

import argparse
import difflib
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import yaml

from sparselearning.distributions import DISTRIBUTIONS
from sparselearning.errors import UsageError
from sparselearning.methods import GROWTH, METHODS
from sparselearning.superposition import AVERAGES

SPARSE = (
    "method", "density", "init_density", "sparse_init", "update_frequency", "prune_rate", "prune_rate_decay", "growth",
    "prune_end", "exempt", "sup_tickets",
)  # fmt: skip
SUP_TICKETS = (
    "cycle_epochs", "ticket_fraction", "num_tickets", "explore_rate", "lr_low", "lr_high", "superpose", "cima_beta",
    "bn", "include_normal", "save_tickets",
)  # fmt: skip


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
            given = {**vars(parser.parse_args(_config_arguments(parser, Path(given["config"])))), **given}
        args = argparse.Namespace(**{**recipe, **given})
        check(args, given)
    except UsageError as error:
        parser.error(str(error))
    return args


def _config_arguments(parser: Parser, path: Path) -> list[str]:
    """A YAML file as command line words, so that both are checked by the same rules."""
    try:
        config = yaml.safe_load(path.read_text()) or {}
    except (OSError, yaml.YAMLError) as error:
        raise UsageError(f"--config {path} cannot be read: {' '.join(str(error).split())}") from error
    if not isinstance(config, dict):
        raise UsageError(f"--config {path} is not a mapping of option names to values")
    known = {action.dest: action for action in parser._actions if action.option_strings}
    words: list[str] = []
    for key, value in config.items():
        dest = str(key).replace("-", "_")
        if dest not in known or dest in ("config", "help"):
            near = difflib.get_close_matches(dest, known, 1)
            raise UsageError(f"--config {path}: unknown key {key!r}" + (f", did you mean {near[0]}?" if near else ""))
        if value is None or value is False:
            continue
        words.append(known[dest].option_strings[0])
        if value is not True:
            words += [str(v) for v in (value if isinstance(value, list) else [value])]
    return words


def check(args: argparse.Namespace, given: Mapping[str, Any]) -> None:
    """Refuse options that would do nothing and numbers that mean nothing.

    Raises:
        UsageError: names the option and the remedy.
    """
    for owner, options in (("sparse", SPARSE), ("sup_tickets", SUP_TICKETS)):
        idle = [name for name in options if name in given]
        if idle and not getattr(args, owner):
            raise UsageError(
                f"{_flag(idle[0])} does nothing without {_flag(owner)}: add {_flag(owner)} or leave it out"
            )
    if "cima_beta" in given and args.superpose != "cima":
        raise UsageError("--cima-beta does nothing without --superpose cima")
    for name in ("epochs", "batch_size", "gradient_accumulation_steps"):
        if getattr(args, name) < 1:
            raise UsageError(f"{_flag(name)} {getattr(args, name)} is not a positive number")
    for name in ("lr", "lr_low", "lr_high"):
        if getattr(args, name) <= 0:
            raise UsageError(f"{_flag(name)} {getattr(args, name):g} is not a positive learning rate")
    if not 0 <= args.valid_fraction < 1:
        raise UsageError(f"--valid-fraction {args.valid_fraction:g} is not in [0, 1)")
    if args.sup_tickets and not 0 <= args.explore_rate <= 1:
        raise UsageError(f"--explore-rate {args.explore_rate:g} is not in [0, 1]")
    if args.sparse and not 0 < args.density <= 1:
        raise UsageError(f"--density {args.density:g} is not in (0, 1]: it is the fraction of weights that is kept")


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
    for title, intro, options in GROUPS:
        group = parser.add_argument_group(title, intro)
        for name, settings in options.items():
            default = recipe.get(name)
            shown = "" if default in (None, False, ()) else f" ({_shown(default)})"
            group.add_argument(_flag(name), **{**settings, "help": settings["help"] + shown})
    return parser


def _shown(default: Any) -> str:
    return " ".join(map(str, default)) if isinstance(default, tuple) else str(default)


_SWITCH = {"action": "store_true"}
GROUPS: tuple[tuple[str, str | None, dict[str, dict[str, Any]]], ...] = (
    ("data", None, {
        "data": {"metavar": "NAME", "help": "cifar10, cifar100, or digits, which needs no download"},
        "data_dir": {"metavar": "FOLDER", "help": "read the data here instead of from the Hub: parquet, ImageFolder, "
                     "save_to_disk or torchvision's CIFAR files"},
        "limit_train": {"type": int, "metavar": "N", "help": "use the first N training images only"},
        "limit_test": {"type": int, "metavar": "N", "help": "use the first N test images only"},
        "valid_fraction": {"type": float, "metavar": "F", "help": "hold out this part of the training images, to tune "
                           "on it instead of on the test set"},
    }),
    ("model and optimiser", "SGD with momentum; the learning rate falls to a tenth at each of --lr-drops.", {
        "model": {"metavar": "NAME", "help": "vgg16, resnet50, wrn28-10 or resnet20"},
        "epochs": {"type": int, "metavar": "N", "help": "length of the whole run, tickets included"},
        "batch_size": {"type": int, "metavar": "N", "help": "images per process and backward pass"},
        "lr": {"type": float, "help": "learning rate at the start"},
        "lr_drops": {"type": float, "nargs": "+", "metavar": "F",
                     "help": "when it falls to a tenth, in parts of the normal phase"},
        "momentum": {"type": float, "help": "of SGD"},
        "clip_grad_norm": {"type": float, "metavar": "N",
                           "help": "scale gradients down to this norm, of the connections that exist"},
        "weight_decay": {"type": float, "help": "on all parameters"},
    }),
    ("sparse training", "Without --sparse the network is dense and the options below are refused.", {
        "sparse": {**_SWITCH, "help": "train a sparse network"},
        "method": {"choices": list(METHODS), "help": "how connections are chosen and moved"},
        "density": {"type": float, "metavar": "D", "help": "fraction of convolution and linear weights that is kept"},
        "init_density": {"type": float, "metavar": "D", "help": "granet: the density it starts from"},
        "sparse_init": {"choices": [*DISTRIBUTIONS, "snip"], "help": "which connections exist at first (erk; snip for "
                        "--method snip)"},
        "update_frequency": {"type": int, "metavar": "STEPS", "help": "optimizer steps between topology updates, ΔT "
                             "(1000, or a twentieth of the normal phase where that is less)"},
        "prune_rate": {"type": float, "metavar": "P", "help": "part of a layer's connections exchanged per update, p"},
        "prune_rate_decay": {"choices": ["constant", "cosine", "linear"], "help": "how p falls over the normal phase"},
        "growth": {"choices": [*GROWTH, "none"], "help": "score by which connections grow (the method's; static, snip "
                   "and gmp grow only at the start of a cycle: by gradient, or none)"},
        "prune_end": {"type": float, "metavar": "F", "help": "granet, gmp: part of the run after which the final "
                      "density is reached"},
        "exempt": {"nargs": "+", "metavar": "PATTERN", "help": "weights to leave dense, by name: 'classifier.*'"},
    }),
    ("Sup-tickets", "The end of the run in short cycles: explore once, train, take a ticket; superpose them.", {
        "sup_tickets": {**_SWITCH, "help": "end with cheap tickets and superpose them"},
        "cycle_epochs": {"type": int, "metavar": "C", "help": "length of a cycle"},
        "ticket_fraction": {"type": float, "metavar": "F", "help": "part of the epochs for cycles, rounded down to "
                            "whole cycles (0.1)"},
        "num_tickets": {"type": int, "metavar": "M", "help": "number of cycles (as many as fit the fraction)"},
        "explore_rate": {"type": float, "metavar": "P", "help": "part of the connections exchanged at a cycle's start"},
        "lr_low": {"type": float, "metavar": "LR", "help": "learning rate at both ends of a cycle"},
        "lr_high": {"type": float, "metavar": "LR", "help": "learning rate in the middle of a cycle"},
        "superpose": {"choices": list(AVERAGES), "help": "averaging: connection independent, aware, or moving"},
        "cima_beta": {"type": float, "metavar": "B", "help": "cima: weight of the tickets before the newest"},
        "bn": {"choices": ["average", "recompute"], "help": "batch-norm statistics of the superposed ticket: averaged, "
               "or one more pass over the training data"},
        "include_normal": {**_SWITCH, "help": "average the model at the end of the normal phase in, as the released "
                           "code does"},
        "save_tickets": {**_SWITCH, "help": "keep each ticket as tickets/ticket-N.safetensors"},
    }),
    ("runtime", None, {
        "seed": {"type": int, "help": "of weights, connections, data order and augmentation"},
        "mixed_precision": {"choices": ["no", "bf16", "fp16"], "help": "(the launcher's; else no)"},
        "gradient_accumulation_steps": {"type": int, "metavar": "N", "help": "backward passes per optimizer step"},
        "compile": {**_SWITCH, "help": "torch.compile the model"},
    }),
    ("output", None, {
        "config": {"metavar": "FILE.yaml", "help": "options from a file; the command line goes before"},
        "output_dir": {"metavar": "FOLDER", "help": "(runs/<data>-<model>-<method>-…)"},
        "overwrite": {**_SWITCH, "help": "replace the run that --output-dir holds"},
        "resume": {"metavar": "auto|PATH", "help": "go on from the newest complete checkpoint, or from this one"},
        "checkpoint_minutes": {"type": float, "metavar": "T", "help": "time between checkpoints"},
        "dry_run": {**_SWITCH, "help": "print the plan, densities, parameters and FLOPs, and exit"},
    }),
)  # fmt: skip

COMMON: dict[str, Any] = {
    "data_dir": None, "limit_train": None, "limit_test": None, "valid_fraction": 0.0,
    "momentum": 0.9, "lr": 0.1, "clip_grad_norm": None,
    "sparse": False, "method": "rigl", "density": 0.05, "init_density": None, "sparse_init": None,
    "update_frequency": None, "prune_rate": 0.5, "growth": None, "exempt": (),
    "sup_tickets": False, "ticket_fraction": None, "num_tickets": None, "explore_rate": 0.5, "superpose": "cia",
    "cima_beta": 0.8, "bn": "average", "include_normal": False, "save_tickets": False,
    "seed": 0, "mixed_precision": None, "gradient_accumulation_steps": 1, "compile": False,
    "config": None, "output_dir": None, "overwrite": False, "resume": None, "checkpoint_minutes": 10.0,
    "dry_run": False,
}  # fmt: skip
CIFAR: dict[str, Any] = {
    **COMMON, "data": "cifar10", "model": "vgg16", "epochs": 250, "batch_size": 128, "lr_drops": (0.5, 0.75),
    "weight_decay": 5e-4, "prune_rate_decay": "constant", "prune_end": 110 / 250,
    "cycle_epochs": 8, "lr_low": 0.001, "lr_high": 0.005,
}  # fmt: skip
