"""The plan of a run from the command line: which phases it has, a row for each of the papers' regimes."""

import math
from collections.abc import Callable
from typing import Any

from sparselearning import phases
from sparselearning.errors import UsageError
from sparselearning.methods import METHODS
from sparselearning.phases import Exploration, Phase, normal_phase
from utils.command_line.options import Options

SCALE = 128  # images per optimizer step that the recipes' learning rates are for


def one_training(args: Options) -> int:
    """The epochs of a single network's training: what options in parts of the run are relative to.

    With --edst that is exploration and one refinement, with pruning and fine-tuning the dense training before it.
    """
    return args.exploration_epochs + args.refine_epochs if args.edst else args.epochs - _fine_tune_epochs(args)


def early_epochs(args: Options) -> int | None:
    """The epochs after which `--save-early` keeps the weights, to be rewound to; None: it does not."""
    return None if args.save_early is None else max(round(args.save_early * one_training(args)), 1)


def make_plan(args: Options, steps_per_epoch: int, batch_size: int) -> list[Phase]:
    """The phases of the run. `batch_size` is that of all processes together.

    Raises:
        UsageError: a phase does not fit; the message says what would.
    """
    row = next((build for switch, build in PLANS.items() if getattr(args, switch)), _plain)
    return row(args, steps_per_epoch, lr_scale(args, batch_size))


def lr_scale(args: Options, batch_size: int) -> float:
    """What all learning rates are multiplied by."""
    return batch_size / SCALE if args.scale_lr else 1.0


def lr_warning(args: Options, batch_size: int, parts: int) -> str | None:
    """Where --batch-size, accumulation or the number of processes leave the recipe, and its learning rate stays."""
    if batch_size == SCALE or args.scale_lr or args.lr != Options.lr:
        return None
    remedies = [f"--batch-size {SCALE // parts}"] if SCALE % parts == 0 and parts < SCALE else []
    return (
        f"warning: the recipe's learning rate of {args.lr:g} is for {SCALE} images per optimizer step, not "
        f"{batch_size:,}: use {', '.join([*remedies, '--scale-lr, or an --lr of your own'])}"
    )


def _normal(args: Options, epochs: int, steps_per_epoch: int, scale: float, **changes: Any) -> Phase:
    """A first phase of so many epochs, its learning rate as the options say."""
    whole = one_training(args) if args.lr_parts == "run" else None
    settings = {"drops": args.lr_drops, "warmup": args.warmup, "parts_of": whole, **changes}
    return normal_phase(epochs, steps_per_epoch, scale * args.lr, **settings)


def _plain(args: Options, steps_per_epoch: int, scale: float) -> list[Phase]:
    normal = _normal(args, one_training(args), steps_per_epoch, scale)
    after = _fine_tune_epochs(args) * steps_per_epoch
    return phases.fine_tuning(normal, after, scale * args.fine_tune_lr) if after else [normal]


def _fine_tune_epochs(args: Options) -> int:
    """After one-shot pruning, where no cycles follow it. Raises UsageError where nothing is left to prune after."""
    if not args.sparse or METHODS[args.method].pruning != "one-shot" or args.sup_tickets:
        return 0
    if args.fine_tune_epochs is not None and args.fine_tune_epochs >= args.epochs:
        raise UsageError(
            f"--fine-tune-epochs {args.fine_tune_epochs} leaves none of --epochs {args.epochs} for training before it: "
            f"use more --epochs"
        )
    return args.fine_tune_epochs or args.epochs // 2


def _cycles(args: Options, steps_per_epoch: int, scale: float) -> list[Phase]:
    """Sup-tickets, and FGE, which is cyclic in the same way but explores no connections."""
    growths, drops = args.explore_growth or [None], args.explore_drop or ["smallest"]
    turns = range(math.lcm(len(growths), len(drops)))
    explorations = [Exploration(args.explore_rate, growths[j % len(growths)], drops[j % len(drops)]) for j in turns]
    return phases.sup_tickets(
        _normal(args, args.epochs - args.tickets * args.cycle_epochs, steps_per_epoch, scale),
        args.tickets,
        args.cycle_epochs * steps_per_epoch,
        scale * args.lr_low,
        scale * args.lr_high,
        explorations if args.sup_tickets else [None],
        "fge" if args.fge else args.cycle_lr,
    )


def _edst(args: Options, steps_per_epoch: int, scale: float) -> list[Phase]:
    exploration = _normal(args, args.exploration_epochs, steps_per_epoch, scale, drops=())
    refine = args.refine_epochs * steps_per_epoch
    return phases.edst(exploration, args.tickets, refine, 0.1 * scale * args.lr, args.global_explore_rate)


def _snapshot(args: Options, steps_per_epoch: int, scale: float) -> list[Phase]:
    return phases.snapshot(args.epochs * steps_per_epoch, args.tickets, scale * args.lr)


PLANS: dict[str, Callable[[Options, int, float], list[Phase]]] = {
    "sup_tickets": _cycles,
    "edst": _edst,
    "snapshot": _snapshot,
    "fge": _cycles,
}
