"""What Masking refuses before any work is done."""

from typing import TYPE_CHECKING

from sparselearning.errors import UsageError, choose
from sparselearning.methods import GROWTH

if TYPE_CHECKING:
    from sparselearning.masking import Masking


def check_arguments(masking: "Masking") -> None:
    """Raises UsageError where the arguments of a Masking do not fit each other; the message says what would."""
    if masking.update_frequency < 1:
        raise UsageError(f"update_frequency {masking.update_frequency} is not a positive number of optimizer steps")
    if not 0 <= masking.prune_rate <= 1:
        raise UsageError(f"prune_rate {masking.prune_rate:g} is not in [0, 1]")
    choose("prune_rate_decay", masking.prune_rate_decay, ("constant", "cosine", "linear"))
    if masking.prune_rate_decay != "constant" and masking.total_steps is None:
        raise UsageError(f"prune_rate_decay {masking.prune_rate_decay} needs total_steps, the step at which p is 0")
    choose("growth", masking.exploration_growth, (*GROWTH, "none"))
    if masking.growth == "none":
        raise UsageError(f"growth none would empty {masking.method.title}: choose one of {', '.join(GROWTH)}")
    if masking.method.pruning is None:
        return
    if masking.prune_end is None or not 0 <= masking.prune_start < masking.prune_end:
        raise UsageError(
            f"{masking.method.title} prunes: prune_end, the step at which the final density is reached, must be given "
            f"and lie after prune_start"
        )
    if not masking.density <= masking.init_density <= 1:
        raise UsageError(f"init_density {masking.init_density:g} is not between density {masking.density:g} and 1")
    if masking.total_steps is not None and masking.method.pruning == "gradual":
        last_update = (masking.total_steps - 1) // masking.update_frequency * masking.update_frequency
        if last_update < masking.prune_end:
            room = masking.total_steps - 1 - masking.prune_end
            remedy = f"an update_frequency of {room} or less" if room > 0 else "an earlier prune_end"
            raise UsageError(
                f"{masking.method.title} is due at its density at step {masking.prune_end}, but its last topology "
                f"update is at {last_update}: use {remedy}, or a longer run"
            )


def check_exploration(masking: "Masking", rate: float, growth: str, drop: str) -> None:
    """Raises UsageError where the masking cannot explore like this."""
    choose("growth", growth, (*GROWTH, "none"))
    choose("drop", drop, ("smallest", "largest"))
    if not 0 <= rate <= 1:
        raise UsageError(f"the rate of an exploration is a fraction of the connections, not {rate:g}")
    if growth == "momentum" and not masking.dense_momentum:
        raise UsageError("momentum is tracked from the start or not at all: give Masking growth='momentum'")
    if drop == "largest" and masking.threshold is not None:
        raise UsageError(f"{masking.method.title} drops what is below its threshold: the largest cannot go")
