"""What stands in the files of a run folder: the types of their entries, for those who write them and who read them."""

from collections.abc import Mapping
from typing import NotRequired, TypeAlias, TypedDict

from torch import Tensor

Numbers = dict[str, float]  # metrics by name
Environment: TypeAlias = dict[str, str | int | None]  # env.json, as `environment` makes it


class EpochRow(TypedDict):
    """A row of metrics.csv: an epoch of training, and the model at its end.

    Beside these keys there is `valid_NAME` for each of METRICS, None where there are no validation images.

    Attributes:
        step: optimizer steps of the run by then; the phase and the learning rate are those of the last one.
        loss, accuracy: of the training images, the accuracy in percent.
        density: of the masked weights.
        grown, dropped: connections of the run by then; `explored`: the share of all weights that ever were one. All
            three are None where the network is dense.
    """

    epoch: int
    step: int
    phase: str
    lr: float
    loss: float
    accuracy: float
    valid_accuracy: float | None
    density: float
    grown: int | None
    dropped: int | None
    explored: float | None
    images_per_second: float


class Results(TypedDict, total=False):
    """The metrics of the models of a run on the test images.

    Attributes:
        final: at the end of the last phase; of a finished run always.
        normal, explore: at the end of the phase before the first ticket.
        superposed, ensemble: of the tickets.
    """

    final: Numbers
    tickets: list[Numbers]
    normal: Numbers
    explore: Numbers
    superposed: Numbers
    ensemble: Numbers


def to_use(test: Results) -> Numbers:
    """The metrics of the model to use: what was made of the tickets, else the model at the end."""
    return test.get("superposed") or test.get("ensemble") or test["final"]


class Summary(TypedDict):
    """What stands in summary.json; what older versions do not record may be missing.

    Attributes:
        density: of the maskable weights at the end.
        maskable: how many there are; `nnz` of them are not zero, both of each layer too.
        test: accuracies in percent.
        flops: as `training.costs.Costs.summary` makes them.
        ensemble: of how many runs.
        start_from: the run whose normal phase this one begins with; cost and time are those of both together.
    """

    data: str
    model: str
    method: str
    sup_tickets: bool
    seed: int
    epochs: int
    density: float
    test: Results
    flops: Numbers
    maskable: NotRequired[int]
    nnz: NotRequired[int]
    nnz_per_layer: NotRequired[dict[str, int]]
    weights_per_layer: NotRequired[dict[str, int]]
    flops_per_layer: NotRequired[Numbers]
    images_per_second: NotRequired[float]
    train_seconds: NotRequired[float]
    ensemble: NotRequired[int]
    start_from: NotRequired[str]


class State(TypedDict):
    """What a checkpoint holds in state.pt: all that the next step depends on.

    Attributes:
        phases_done: phases that are over, their ticket taken.
        optimizer, scaler, masking, superposition: as each of them makes and checks its own; None where there is none.
        results: metrics of the models met so far.
        cost: training steps so far, in those of the dense network, by counting.
        sums: Σ loss, Σ correct, images, of the epoch so far.
        circumstances: what the bits of a run depend on beside its options, in words.
    """

    step: int
    phases_done: int
    model: Mapping[str, Tensor]
    optimizer: Mapping[str, object]
    scaler: Mapping[str, object] | None
    masking: Mapping[str, object] | None
    superposition: Mapping[str, object] | None
    results: Results
    history: list[EpochRow]
    seconds: float
    cost: Numbers
    sums: Tensor
    circumstances: str
