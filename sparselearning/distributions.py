"""How many weights each layer keeps: pure functions on shapes.

A distribution gives every layer a density; here that density is an integer count, and the counts add up to exactly
round(density · N), N the number of maskable weights.
"""

import fnmatch
import math
from collections.abc import Callable, Mapping, Sequence

from sparselearning.errors import UsageError, check_number

Shapes = Mapping[str, Sequence[int]]
Density = float | Mapping[str, float]  # of the network, or {shell pattern of layers' names: of each such layer}


def erk(shapes: Shapes, density: float) -> dict[str, int]:
    """Erdős-Rényi-Kernel (Evci et al. 2020): a layer's density grows with Σ(its dimensions) / Π(its dimensions)."""
    return _allocate(shapes, density, lambda shape: sum(shape) / math.prod(shape))


def er(shapes: Shapes, density: float) -> dict[str, int]:
    """Erdős-Rényi (Mocanu et al. 2018): as ERK, but of the channels alone, (n_in + n_out) / (n_in · n_out)."""
    return _allocate(shapes, density, lambda shape: sum(shape[:2]) / math.prod(shape[:2]))


def uniform(shapes: Shapes, density: float) -> dict[str, int]:
    """The same density in every layer."""
    return _allocate(shapes, density, lambda shape: 1.0)


DISTRIBUTIONS: dict[str, Callable[[Shapes, float], dict[str, int]]] = {"erk": erk, "er": er, "uniform": uniform}
SCORED = ("snip", "snip-layerwise")  # beside them: connections by their scores, not drawn


def by_layer(shapes: Shapes, densities: Mapping[str, float]) -> dict[str, int]:
    """round(density · n) of each layer, at least 1, by the first pattern that its name fits.

    Raises:
        UsageError: a density is outside (0, 1], a pattern fits no layer, or a layer no pattern.
    """
    for pattern, density in densities.items():
        _check_density(density)
        if not fnmatch.filter(shapes, pattern):
            raise UsageError(f"density of {pattern!r}: no masked weight has such a name, e.g. {next(iter(shapes))}")
    counts = {}
    for name, shape in shapes.items():
        share = next((density for pattern, density in densities.items() if fnmatch.fnmatch(name, pattern)), None)
        if share is None:
            raise UsageError(f"no density is given for {name}: end with one for all others, {{..., '*': 0.1}}")
        counts[name] = max(round(share * math.prod(shape)), 1)
    return counts


def _check_density(density: float) -> None:
    check_number("density", density)
    if not 0 < density <= 1:
        raise UsageError(f"density {density:g} is not in (0, 1]: it is the fraction of weights that is kept")


def total_count(shapes: Shapes, density: Density) -> int:
    """round(density · N): how many maskable weights a network of this density keeps.

    Raises:
        UsageError: the density is outside (0, 1] or leaves some layer without a weight.
    """
    if isinstance(density, Mapping):
        return sum(by_layer(shapes, density).values())
    _check_density(density)
    maskable = sum(math.prod(shape) for shape in shapes.values())
    total = round(density * maskable)
    if total < len(shapes):
        raise UsageError(
            f"density {density:g} keeps {total} of {maskable} weights, but each of the {len(shapes)} layers needs one: "
            f"use a density of at least {math.ceil(1e7 * len(shapes) / maskable) / 1e7:g}"
        )
    return total


def _allocate(shapes: Shapes, density: float, raw: Callable[[Sequence[int]], float]) -> dict[str, int]:
    """Densities ε·raw(shape), with ε such that the counts add up; what would pass 1 is dense (RigL's fixed point)."""
    total = total_count(shapes, density)
    size = {name: math.prod(shape) for name, shape in shapes.items()}
    return apportion(total, {name: raw(shape) * size[name] for name, shape in shapes.items()}, size, least=1)


def apportion(
    total: int, share: Mapping[str, float], size: Mapping[str, int], least: int = 0
) -> dict[str, int]:
    """Counts in proportion to the shares that add up to `total`; what would pass a layer's size goes to the others."""
    full: set[str] = set()
    while len(full) < len(size):
        open_ = [name for name in size if name not in full]
        epsilon = (total - sum(size[name] for name in full)) / sum(share[name] for name in open_)
        too_full = {name for name in open_ if epsilon * share[name] > size[name]}
        if not too_full:
            break
        full |= too_full
    ideal = {name: float(size[name]) if name in full else epsilon * share[name] for name in size}
    return round_to_total(ideal, size, total, least)


def round_to_total(
    ideal: Mapping[str, float], size: Mapping[str, int], total: int, least: int = 1
) -> dict[str, int]:
    """Integers near `ideal` that add up to `total`, by largest remainder; a layer has at least `least`, at most all."""
    count = {name: min(max(math.floor(ideal[name]), least), size[name]) for name in size}
    missing = total - sum(count.values())
    step = 1 if missing > 0 else -1
    for _ in range(abs(missing)):
        free = [name for name in size if least <= count[name] + step <= size[name]]
        name = max(free, key=lambda name: step * (ideal[name] - count[name]))
        count[name] += step
    return count
