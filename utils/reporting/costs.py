"""The FLOPs of a table: those of every row are relative to one dense training, the same for all rows of a network."""

from collections.abc import Sequence

from sparselearning.flops import Counting
from utils.reporting.groups import PLAIN, Group

COST = ("train FLOPs", "test FLOPs")


def add_costs(groups: Sequence[Group], epochs: int | None, counting: Counting) -> str:
    """Give all runs their columns of COST; returns a sentence that names the unit.

    Args:
        epochs: the length of the dense training; None: that of the table's own, else of its longest run.
    """
    networks = dict.fromkeys((group.about.model, group.about.data) for group in groups)
    said = []
    for model, data in networks:
        alike = [group for group in groups if (group.about.model, group.about.data) == (model, data)]
        length = epochs or dense_training(alike)
        width = max(group.about.width for group in alike)
        epoch = _relate(alike, length, width)
        network = model if width == 1 else f"{model} of width {width:g}"
        said.append(f"{length} epochs of {network} on {data}" + f" ({length * epoch:.2e} FLOPs)" * (epoch > 0))
    how = {"plain": "a multiplication and an addition per weight", "rigl": "counted as RigL does"}[counting]
    if counting != "plain" and any(run.cost.epoch == 0 for group in groups for run in group.runs):
        how += ", but plainly in runs of older versions"
    return f"FLOPs ({how}): 1× is one dense training, {', '.join(said)}"


def dense_training(alike: Sequence[Group]) -> int:
    """The epochs of the longest dense training, else of the longest plain run, else of the longest of all."""
    plain = [group for group in alike if PLAIN in group.values]
    dense = [group for group in plain if group.about.method == "dense"]
    return max(group.about.epochs for group in dense or plain or alike)


def _relate(alike: Sequence[Group], length: int, width: float) -> float:
    """Costs relative to those of a network's widest form; returns the FLOPs of its epoch, 0 where unknown."""
    whole = max(run.cost.epoch for group in alike for run in group.runs)
    for group in alike:
        for train, test, epoch, numbers in ((*run.cost, run.numbers) for run in group.runs):
            if epoch == 0 and group.about.width != width:
                continue  # an older run does not record how much smaller its network is
            share = epoch / whole if epoch else 1.0
            numbers |= dict(zip(COST, (share * train / length, share * test), strict=True))
    return whole
