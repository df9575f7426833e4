"""What a topology update does to the masks of all layers: prune, and explore (drop, and grow as many).

A layer gets back what it drops, unless the method's row says how the losses of all are shared out anew.
"""

from typing import TYPE_CHECKING

from torch import Tensor

from sparselearning.distributions import apportion, total_count
from sparselearning.methods import GROWTH, REDISTRIBUTION
from sparselearning.schedules import gradual_density
from sparselearning.selection import drop, drop_count, grow, k_largest, k_largest_overall

if TYPE_CHECKING:
    from sparselearning.masking import Masking

Masks = dict[str, Tensor]
Counts = dict[str, int]
_TOLERANCE = 0.1  # of DSR: how far the number it drops may be from its aim before the threshold changes


def prune(masking: "Masking") -> Masks:
    """The largest weights of all layers together, as many as the density of this step allows."""
    if masking.method.pruning is None:
        return masking.masks
    assert masking.prune_end is not None
    start = masking.prune_start if masking.method.pruning == "gradual" else masking.prune_end - 1
    density = gradual_density(masking.step, start, masking.prune_end, masking.init_density, masking.density)
    count = total_count(masking.shapes, density)
    if count >= masking.nnz:
        return masking.masks
    magnitudes = [weight.abs() for weight in masking.weights.values()]
    kept = k_largest_overall(magnitudes, count, among=list(masking.masks.values()))
    return dict(zip(masking.masks, kept, strict=True))


def explore(masking: "Masking", masks: Masks, rate: float, growth: str, criterion: str) -> tuple[Masks, Counts, Counts]:
    """Drop and grow once (Sup-tickets, Eq. 1 and 2).

    Args:
        masks: the connections to start from, `masking.active[name]` of them in each layer.
        rate: p, the fraction of the connections that is exchanged.
        growth: a row of GROWTH, by which new ones come.
        criterion: whose magnitude goes, the `smallest` or the `largest`.

    Returns:
        The new masks, and by layer how many connections were dropped and grown.
    """
    if masking.threshold is None:
        lost = _losses(masking, rate)
        kept = {name: _drop(masking, name, masks[name], lost[name], criterion) for name in masks}
    else:
        kept = _drop_below_threshold(masking, masks, rate)
        lost = {name: masking.active[name] - int(mask.sum()) for name, mask in kept.items()}
    gained = _gains(masking, lost)
    return {name: _grow(masking, name, kept[name], gained[name], growth) for name in masks}, lost, gained


def _losses(masking: "Masking", rate: float) -> Counts:
    """⌈p·nnz⌉ of every layer, or fewer where a layer could not get them back."""
    counts = {}
    for name, weight in masking.weights.items():
        active, free = masking.active[name], weight.numel() - masking.active[name]
        counts[name] = drop_count(rate, active, active - 1 if masking.method.redistribution else free)
    return counts


def _gains(masking: "Masking", lost: Counts) -> Counts:
    """What every layer grows: as much as it lost, or the share of all losses that its score says."""
    if masking.method.redistribution is None:
        return lost
    left = {name: masking.active[name] - count for name, count in lost.items()}
    free = {name: weight.numel() - left[name] for name, weight in masking.weights.items()}
    shares = REDISTRIBUTION[masking.method.redistribution](masking, left)
    return apportion(sum(lost.values()), shares, free)


def _drop(masking: "Masking", name: str, mask: Tensor, count: int, criterion: str) -> Tensor:
    return drop(masking.weights[name], mask, masking.active[name], count, criterion) if count else mask


def _grow(masking: "Masking", name: str, mask: Tensor, count: int, growth: str) -> Tensor:
    return grow(GROWTH[growth](masking, name, masking.weights[name]), mask, count) if count else mask


def _drop_below_threshold(masking: "Masking", masks: Masks, rate: float) -> Masks:
    """DSR (Mostafa & Wang 2019): one threshold for all layers, doubled or halved when it drops too few or too many.

    Every layer keeps its largest weight.
    """
    assert masking.threshold is not None
    kept = {}
    for name, weight in masking.weights.items():
        magnitude = weight.abs()
        kept[name] = masks[name] & ((magnitude >= masking.threshold) | k_largest(magnitude, 1, among=masks[name]))
    aim = rate * masking.nnz
    dropped = masking.nnz - sum(int(mask.sum()) for mask in kept.values())
    if dropped < (1 - _TOLERANCE) * aim:
        masking.threshold *= 2
    elif dropped > (1 + _TOLERANCE) * aim:
        masking.threshold /= 2
    return kept
