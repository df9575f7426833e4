"""The options of efficient ensembles."""

from __future__ import annotations

from dataclasses import dataclass

from models.ensembles import ENSEMBLES, Ensemble
from utils.command_line.rows import CLOSED, FROM_0, Group, count, derived, option
from utils.command_line.run_options import RATE


def _members(options: EfficientEnsembleOptions) -> int | None:
    return ENSEMBLES[options.efficient_ensemble].members if options.efficient_ensemble else None


def _repetitions(options: EfficientEnsembleOptions) -> int | None:
    """Where the kind does not say, every member sees every image."""
    kind = options.efficient_ensemble
    return (ENSEMBLES[kind].repetitions or options.members) if kind else None


@dataclass(frozen=True, kw_only=True)
class EfficientEnsembleOptions(Group):
    """efficient ensembles: One network that makes several predictions, which are averaged; dense, or with --sparse."""

    efficient_ensemble: str | None = option(
        None, "dropout that stays on; weights times a matrix of rank one for each member; several images in one pass; "
        "or a network that branches", choices=ENSEMBLES)  # fmt: skip
    members: int | None = derived(_members, "predictions of an image (mc-dropout 10, batchensemble 4, mimo and treenet "
                                  "3)", metavar="M", fits=count(1000), needs=("efficient_ensemble",))  # fmt: skip
    batch_repetitions: int | None = derived(
        _repetitions, "how often an image comes in a batch, which is as many times as large (mimo 4, batchensemble: "
        "once for each member, others 1)", metavar="R", fits=count(1000), needs=("efficient_ensemble",))  # fmt: skip
    dropout: float = option(0.1, "part of the activations that is dropped", metavar="P", fits=FROM_0,
                            needs=("efficient_ensemble mc-dropout",))  # fmt: skip
    fast_lr: float = option(0.5, "learning rate of the members' own weights, in parts of the others'", metavar="F",
                            fits=RATE, needs=("efficient_ensemble batchensemble",))  # fmt: skip
    input_repetition: float = option(0.0, "part of a batch in which all members see the same image", metavar="P",
                                     fits=CLOSED, needs=("efficient_ensemble mimo",))  # fmt: skip
    shared: float = option(0.75, "part of the blocks that members share", metavar="F", fits=FROM_0,
                           needs=("efficient_ensemble treenet",))  # fmt: skip

    @property
    def of_members(self) -> Ensemble | None:
        """The efficient ensemble that is made of the network, if any."""
        if self.efficient_ensemble is None or self.members is None:
            return None
        number = ENSEMBLES[self.efficient_ensemble].number
        return Ensemble(self.efficient_ensemble, self.members, None if number is None else getattr(self, number))
