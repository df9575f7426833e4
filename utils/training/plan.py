"""The plan of a run from its options: which phases it has, a row of PLANS for each of the papers' regimes."""

import math
from collections.abc import Callable, Sequence

from sparselearning import phases
from sparselearning.errors import UsageError
from sparselearning.methods import METHODS
from sparselearning.phases import Exploration, Phase, normal_phase
from utils.command_line.options import ModelOptions, Options

SCALE = 128  # images per optimizer step that the recipes' learning rates are for
Plan = Callable[[Options, int, float], list[Phase]]  # from options, steps per epoch and what scales learning rates


def make_plan(options: Options, steps_per_epoch: int, batch_size: int) -> list[Phase]:
    """The phases of the run. `batch_size` is that of all processes and backward passes together.

    Raises:
        UsageError: a phase does not fit; the message says what would.
    """
    plan = next((plan for regime, plan in PLANS.items() if getattr(options, regime)), normal)
    return plan(options, steps_per_epoch, lr_scale(options, batch_size))


def lr_scale(options: ModelOptions, batch_size: int) -> float:
    """What all learning rates are multiplied by."""
    return batch_size / SCALE if options.scale_lr else 1.0


def lr_warning(options: ModelOptions, batch_size: int, parts: int) -> str | None:
    """Where --batch-size, accumulation or the number of processes leave the recipe, and its learning rate stays."""
    if batch_size == SCALE or options.scale_lr or options.lr != ModelOptions.lr:
        return None
    remedies = [f"--batch-size {SCALE // parts}"] if SCALE % parts == 0 and parts < SCALE else []
    return (
        f"warning: the recipe's learning rate of {options.lr:g} is for {SCALE} images per optimizer step, not "
        f"{batch_size:,}: use {', '.join([*remedies, '--scale-lr, or an --lr of your own'])}"
    )


def one_training(options: Options) -> int:
    """The epochs of a single network's training.

    With --edst that is exploration and one refinement, with pruning and fine-tuning the dense training before it.
    """
    if options.edst:
        return options.exploration_epochs + options.refine_epochs
    return options.epochs - _fine_tune_epochs(options)


def parts_of(options: Options) -> int:
    """The epochs that options in parts of the run are relative to."""
    return options.parts_of or one_training(options)


def early_epochs(options: Options) -> int | None:
    """The epochs after which `--save-early` keeps the weights, to be rewound to; None: it does not."""
    return None if options.save_early is None else max(round(options.save_early * one_training(options)), 1)


# ---- the regimes ---------------------------------------------------------------------------------------------------


def normal(options: Options, steps_per_epoch: int, scale: float) -> list[Phase]:
    """One phase; with --continue-epochs, and after one-shot pruning (PF) of fine-tuning, a second one."""
    fine_tune = _fine_tune_epochs(options)
    first = _first_phase(options, options.normal_epochs - fine_tune, steps_per_epoch, scale)
    if options.continue_epochs:
        return phases.continued(first, options.continue_epochs * steps_per_epoch)
    after = fine_tune * steps_per_epoch
    return phases.fine_tuning(first, after, scale * options.fine_tune_lr) if after else [first]


def sup_tickets(options: Options, steps_per_epoch: int, scale: float) -> list[Phase]:
    """Algorithm 1 of Sup-tickets: cycles that begin with an exploration; criteria that are several take turns."""
    growths, drops = options.explore_growth or [None], options.explore_drop or ["smallest"]
    turns = range(math.lcm(len(growths), len(drops)))
    rate = options.explore_rate
    explorations = [Exploration(rate, growths[j % len(growths)], drops[j % len(drops)]) for j in turns]
    return _cyclic(options, steps_per_epoch, scale, explorations, options.cycle_lr)


def edst(options: Options, steps_per_epoch: int, scale: float) -> list[Phase]:
    """Algorithm 3 of FreeTickets; a refinement begins at a tenth of the learning rate of the exploration."""
    exploration = _first_phase(options, options.exploration_epochs, steps_per_epoch, scale, drops=False)
    refine = options.refine_epochs * steps_per_epoch
    return phases.edst(exploration, options.tickets, refine, 0.1 * scale * options.lr, options.global_explore_rate)


def snapshot(options: Options, steps_per_epoch: int, scale: float) -> list[Phase]:
    """Snapshot ensembles (Huang et al. 2017)."""
    return phases.snapshot(options.epochs * steps_per_epoch, options.tickets, scale * options.lr)


def fge(options: Options, steps_per_epoch: int, scale: float) -> list[Phase]:
    """Fast geometric ensembles (Garipov et al. 2018): cycles of a dense network, which explores no connections."""
    return _cyclic(options, steps_per_epoch, scale, [None], "fge")


PLANS: dict[str, Plan] = {"sup_tickets": sup_tickets, "edst": edst, "snapshot": snapshot, "fge": fge}  # by switch


def _first_phase(options: Options, epochs: int, steps_per_epoch: int, scale: float, drops: bool = True) -> Phase:
    """A first phase of so many epochs, its learning rate as the options say, or without its drops."""
    whole = parts_of(options) if options.lr_parts == "run" else None
    milestones = options.lr_drops if drops else ()
    return normal_phase(epochs, steps_per_epoch, scale * options.lr, milestones, options.warmup, whole)


def _cyclic(
    options: Options, steps_per_epoch: int, scale: float, explorations: Sequence[Exploration | None], shape: str
) -> list[Phase]:
    return phases.sup_tickets(
        _first_phase(options, options.normal_epochs, steps_per_epoch, scale),
        options.tickets,
        options.cycle_epochs * steps_per_epoch,
        scale * options.lr_low,
        scale * options.lr_high,
        explorations,
        shape,
    )


def _fine_tune_epochs(options: Options) -> int:
    """After one-shot pruning, where no cycles follow it. Raises UsageError where nothing is left to prune after."""
    if not options.sparse or METHODS[options.method].pruning != "one-shot" or options.sup_tickets:
        return 0
    if options.fine_tune_epochs is not None and options.fine_tune_epochs >= options.epochs:
        raise UsageError(
            f"--fine-tune-epochs {options.fine_tune_epochs} leaves none of --epochs {options.epochs} for training "
            f"before it: use more --epochs"
        )
    return options.fine_tune_epochs or options.epochs // 2
