"""One exploration of the topology: drop a part of the connections, grow as many (Sup-tickets, Eq. 1 and 2).

A layer gets back what it drops, unless the method's row says how the losses of all are shared out anew.
"""

import math
from collections.abc import Mapping
from numbers import Real

from torch import Tensor

from sparselearning.distributions import apportion
from sparselearning.errors import UsageError, shown
from sparselearning.kinds import kind_of
from sparselearning.methods import DROP, GROWTH, REDISTRIBUTION, Layer, Method, Score
from sparselearning.selection import drop_count
from sparselearning.topology import Topology, dropped, dropped_below, grown, pruned

_TOLERANCE = 0.1  # of DSR: how far the number it drops may be from its aim before the threshold changes


def explored(
    topology: Topology,
    layers: Mapping[str, Layer],
    method: Method,
    rate: float,
    growth: str,
    drop: str = "smallest",
    threshold: float | None = None,
) -> tuple[Topology, int]:
    """The topology after one exploration, and how many connections were exchanged.

    Args:
        layers: what scores read, of each layer of the topology.
        rate: p, the part of the connections that is exchanged, ⌈p·nnz⌉ of each layer.
        growth: a row of GROWTH, by which new ones come.
        drop: a row of DROP, by which old ones go.
        threshold: below which weights go instead (DSR).
    """
    weights = {name: layer.weight for name, layer in layers.items()}
    if threshold is not None:
        kept = dropped_below(topology, weights, threshold)
    elif method.threshold is not None:  # DSR has no rate of a layer
        kept = pruned(topology, weights, topology.nnz - drop_count(rate, topology.nnz, topology.nnz - len(layers)))
    else:
        kept = dropped(topology, lambda name: _score("drop", DROP, drop, layers[name]), _losses(topology, method, rate))
    moved = topology.nnz - kept.nnz
    barred = None
    free = kept.free()
    if not method.regrow and sum(topology.free().values()) >= moved:
        barred = topology.masks
        free = topology.free()
    if method.redistribution is None:
        gains = {name: count - kept.active[name] for name, count in topology.active.items()}
    else:
        gains = apportion(moved, _shares(method.redistribution, layers, kept.active), free)
    return grown(kept, lambda name: _score("growth", GROWTH, growth, layers[name]), gains, barred), moved


def _score(option: str, table: Mapping[str, Score], row: str, layer: Layer) -> Tensor:
    """Raises UsageError where a row of the table, which users may have written, gives no score."""
    score, weight = table[row](layer), layer.weight
    fits = isinstance(score, Tensor) and (score.shape, score.device) == (weight.shape, weight.device)
    # looking at the numbers takes time, and makes the host wait: a row shows its kind in the first update
    if not fits or score.is_complex() or (layer.key[1] == 0 and float(score.min()) < 0):
        raise UsageError(
            f"{option} {row!r} scores {layer.name} by {kind_of(score)}: a score is one number for each weight, on its "
            f"device and not negative"
        )
    return score


def _shares(row: str, layers: Mapping[str, Layer], left: Mapping[str, int]) -> Mapping[str, float]:
    """Raises UsageError where a row of REDISTRIBUTION, which users may have written, does not serve all layers."""
    shares = REDISTRIBUTION[row](layers, left)
    numbers = list(shares.values()) if isinstance(shares, Mapping) and shares.keys() == layers.keys() else [None]
    if not all(isinstance(number, Real) and 0 < number < math.inf for number in numbers):
        raise UsageError(f"redistribution {row!r} gives {shown(shares)}: it must give each layer a positive number")
    return shares


def _losses(topology: Topology, method: Method, rate: float) -> dict[str, int]:
    """⌈p·nnz⌉ of every layer, or fewer where a layer could not get them back."""
    free = topology.free()
    return {
        name: drop_count(rate, active, active - 1 if method.redistribution else free[name])
        for name, active in topology.active.items()
    }


def next_threshold(threshold: float, rate: float, nnz: int, moved: int) -> float:
    """DSR's threshold (Mostafa & Wang 2019): doubled when it dropped too few of its aim p·nnz, halved when too many."""
    aim = rate * nnz
    if moved < (1 - _TOLERANCE) * aim:
        return 2 * threshold
    return threshold / 2 if moved > (1 + _TOLERANCE) * aim else threshold
