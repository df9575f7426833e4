"""What Masking refuses before any work is done."""

from collections.abc import Mapping
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

from torch import Tensor

from sparselearning.distributions import Density
from sparselearning.errors import UsageError, check_number, choose
from sparselearning.methods import DROP, GROWTH

if TYPE_CHECKING:
    from sparselearning.masking import Masking

_NUMBERS = (
    (("update_frequency", "prune_start", "prune_end", "total_steps", "seed"), Integral),
    (("init_density", "prune_rate"), Real),
)


def check_arguments(masking: "Masking", density: Density, init: str | Mapping[str, Tensor]) -> None:
    """Raises UsageError where the arguments of a Masking do not fit each other; the message says what would."""
    _check_numbers(masking)
    if masking.update_frequency < 1:
        raise UsageError(f"update_frequency {masking.update_frequency} is not a positive number of optimizer steps")
    choose("prune_rate_decay", masking.prune_rate_decay, ("constant", "cosine", "linear"))
    if masking.prune_rate_decay != "constant" and masking.total_steps is None:
        raise UsageError(f"prune_rate_decay {masking.prune_rate_decay} needs total_steps, the step at which p is 0")
    choose("growth", masking.exploration_growth, (*GROWTH, "none"))
    if masking.growth == "none":
        raise UsageError(f"growth none would empty {masking.method.title}: choose one of {', '.join(GROWTH)}")
    if isinstance(density, Mapping):
        _check_densities(masking, init)
    if masking.method.pruning is not None:
        _check_pruning(masking)


def _check_numbers(masking: "Masking") -> None:
    for names, kind in _NUMBERS:
        for name in names:
            if getattr(masking, name) is not None:
                check_number(name, getattr(masking, name), kind)
    if not 0 <= masking.prune_rate <= 1:
        raise UsageError(f"prune_rate {masking.prune_rate:g} is not in [0, 1]")


def _check_densities(masking: "Masking", init: str | Mapping[str, Tensor]) -> None:
    """Densities by layer stay what they are, or mean nothing."""
    if masking.method.pruning or masking.method.redistribution:
        raise UsageError(f"{masking.method.title} moves connections between layers: give it one density for all")
    if init == "snip":
        raise UsageError("snip chooses the density of each layer: use sparse_init='snip-layerwise', or one density")


def _check_pruning(masking: "Masking") -> None:
    """Gradual and one-shot pruning must come to their end."""
    every, title = masking.update_frequency, masking.method.title
    if masking.prune_end is None or not 0 <= masking.prune_start < masking.prune_end:
        raise UsageError(
            f"{title} prunes: prune_end, the step at which the final density is reached, must be given and lie after "
            f"prune_start"
        )
    if not masking.density <= masking.init_density <= 1:
        raise UsageError(f"init_density {masking.init_density:g} is not between density {masking.density:g} and 1")
    if masking.method.pruning != "gradual":
        return
    if masking.total_steps is None and masking.prune_end < every:
        raise UsageError(
            f"{title} is due at its density at step {masking.prune_end}, before its first topology update at {every}: "
            f"use an update_frequency of {masking.prune_end} or less, or a later prune_end"
        )
    if masking.total_steps is not None:
        last_update = (masking.total_steps - 1) // every * every
        if last_update < masking.prune_end:
            room = masking.total_steps - 1 - masking.prune_end
            remedy = f"an update_frequency of {room} or less" if room > 0 else "an earlier prune_end"
            raise UsageError(
                f"{title} is due at its density at step {masking.prune_end}, but its last topology update is at "
                f"{last_update}: use {remedy}, or a longer run"
            )


def check_exploration(masking: "Masking", rate: float, growth: str, drop: str) -> None:
    """Raises UsageError where the masking cannot explore like this."""
    choose("growth", growth, (*GROWTH, "none"))
    choose("drop", drop, DROP)
    check_number("the rate of an exploration", rate)
    if not 0 <= rate <= 1:
        raise UsageError(f"the rate of an exploration is a fraction of the connections, not {rate:g}")
    if growth == "momentum" and not masking.dense_momentum:
        raise UsageError("momentum is tracked from the start or not at all: give Masking growth='momentum'")
    if drop != "smallest" and masking.threshold is not None:
        raise UsageError(f"{masking.method.title} drops what is below its threshold: the {drop} cannot go")


def check_state(masking: "Masking", state: Mapping[str, Any]) -> None:
    """Raises UsageError where a saved state is not one of this model, method and density."""
    if missing := {*masking.state_dict()} - {*state}:
        raise UsageError(f"the saved state has no {', '.join(sorted(missing))}: save masking.state_dict() whole")
    if (state["method"], state["target"]) != (masking.method.title, masking.target):
        raise UsageError(
            f"the saved masks are of {state['method']} with {state['target']} weights, not of {masking.method.title} "
            f"with {masking.target}"
        )
    for part, own in masking.tensors().items():
        if {name: t.shape for name, t in own.items()} != {name: t.shape for name, t in state[part].items()}:
            raise UsageError(f"the saved {part} belong to another model or kind of growth")
