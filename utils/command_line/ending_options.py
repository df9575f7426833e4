"""The options by which a run begins with the normal phase of another one, and how it may end without tickets."""

from dataclasses import dataclass

from sparselearning.methods import METHODS
from utils.command_line.paths import place
from utils.command_line.rows import Group, option
from utils.command_line.run_options import EPOCHS, OWN_RATE
from utils.command_line.sparse_options import REGIMES

NO_NORMAL_PHASE = "which has no normal phase"


@dataclass(frozen=True, kw_only=True)
class EndingOptions(Group):
    """endings: One normal phase, many endings: a run may begin with the normal phase of another one."""

    start_from: str | None = option(
        None, "begin at the end of the normal phase of this run, and end in another way: in cycles of other options, "
        "with another seed, or with --continue-epochs; all other options as there. --epochs is their sum, and need "
        "not be given", metavar="RUN", read=place, idle={
            "edst": NO_NORMAL_PHASE, "snapshot": NO_NORMAL_PHASE, "ensemble": "whose runs share no training",
            "save_early": "which is over then"})  # fmt: skip
    continue_epochs: int | None = option(
        None, "end with so many epochs at the last learning rate of the normal phase, connections moving as before",
        metavar="N", fits=EPOCHS, only={"method": [name for name, row in METHODS.items() if row.pruning != "one-shot"]},
        idle=dict.fromkeys(REGIMES, "which has an ending of its own"))  # fmt: skip
    parts_of: int | None = option(
        None, "the epochs that --prune-end, and with --lr-parts run --lr-drops and --warmup, are parts of (--epochs; "
        "with --start-from those of that run)", metavar="N", fits=EPOCHS,
        idle={"edst": OWN_RATE, "snapshot": OWN_RATE})  # fmt: skip
