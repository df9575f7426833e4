"""Which connections exist at step 0."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, distributed, nn

from sparselearning.distributions import DISTRIBUTIONS, SCORED, Density, Shapes, by_layer, total_count, uniform
from sparselearning.errors import UsageError, choose, shown
from sparselearning.kinds import misfit
from sparselearning.selection import generator, k_largest, k_largest_overall, random_mask
from sparselearning.snip import connection_sensitivity
from sparselearning.topology import Topology


def initial_masks(
    model: nn.Module,
    weights: Mapping[str, Tensor],
    init: str | Mapping[str, Tensor],
    density: Density,
    seed: int,
    snip_batches: Iterable[tuple[Tensor, Tensor]] | None,
) -> dict[str, Tensor]:
    """Bool masks by parameter name, round(density · N) entries together, equal on every process.

    Args:
        weights: the maskable weights of the model by name.
        init: a distribution (`erk`, `er`, `uniform`), its positions drawn without replacement; `snip`, the largest
            scores of all layers together, or `snip-layerwise`, of each layer at uniform density; or masks.
        density: with densities by layer, `init` says no more than how positions are chosen.
        snip_batches: batches (inputs, labels) for SNIP, on the model's device.

    Raises:
        UsageError: the init is unknown, SNIP has no data, masks do not fit, or the density leaves a layer empty.
    """
    shapes = {name: weight.shape for name, weight in weights.items()}
    if not isinstance(init, str):
        masks = _given_masks(init, weights, density)
    elif init in SCORED:
        masks = _snip_masks(model, shapes, init, density, snip_batches)
    else:
        allocate = choose("sparse_init", init, {**DISTRIBUTIONS, **dict.fromkeys(SCORED)})
        counts = by_layer(shapes, density) if isinstance(density, Mapping) else allocate(shapes, density)
        masks = [random_mask(shapes[name], counts[name], generator(seed, "init", name)) for name in weights]
    # in the memory format of the weights, so that masking is one contiguous pass
    return {
        name: torch.zeros_like(weight, dtype=torch.bool).copy_(mask)
        for (name, weight), mask in zip(weights.items(), masks, strict=True)
    }


def _snip_masks(
    model: nn.Module,
    shapes: Mapping[str, torch.Size],
    init: str,
    density: Density,
    batches: Iterable[tuple[Tensor, Tensor]] | None,
) -> list[Tensor]:
    """From scores of the first process: they depend on the order of summation, so that others could differ."""
    if init == "snip" and isinstance(density, Mapping):
        raise UsageError("snip chooses the density of each layer: use sparse_init='snip-layerwise', or one density")
    if batches is None:
        raise UsageError("SNIP scores connections on data: give snip_batches")
    masks = [
        torch.zeros(shape, dtype=torch.bool, device=model.get_parameter(name).device) for name, shape in shapes.items()
    ]
    mistake: list[str | None] = [None]
    if not _distributed() or distributed.get_rank() == 0:
        try:
            scores = connection_sensitivity(model, list(shapes), batches)
            masks = _largest(scores, shapes, init, density)
        except UsageError as error:  # the other processes wait for the masks
            mistake = [str(error)]
    if _distributed():
        distributed.broadcast_object_list(mistake)
    if mistake[0] is not None:
        raise UsageError(mistake[0])
    if _distributed():
        for mask in masks:
            distributed.broadcast(mask, src=0)
    return masks


def _largest(scores: Mapping[str, Tensor], shapes: Shapes, init: str, density: Density) -> list[Tensor]:
    if init == "snip":
        return k_largest_overall(list(scores.values()), total_count(shapes, density))
    counts = by_layer(shapes, density) if isinstance(density, Mapping) else uniform(shapes, density)
    return [k_largest(score, counts[name]) for name, score in scores.items()]


def _distributed() -> bool:
    return distributed.is_available() and distributed.is_initialized()


def _given_masks(given: object, weights: Mapping[str, Tensor], density: Density) -> list[Tensor]:
    """What is not zero in masks or weights by name; NaN and infinity are no connections."""
    if not isinstance(given, Mapping):
        raise UsageError(f"sparse_init {shown(given)} is neither a name nor masks by parameter name")
    masks = {n: (mask != 0) & mask.isfinite() if isinstance(mask, Tensor) else mask for n, mask in given.items()}
    if problem := misfit(masks, {n: torch.empty_like(w, dtype=torch.bool) for n, w in weights.items()}, "sparse_init"):
        raise UsageError(f"the connections to start from are those of another model: {problem}")
    active = Topology.of(masks).active
    nnz, count = sum(active.values()), total_count({name: w.shape for name, w in weights.items()}, density)
    if nnz != count:
        raise UsageError(f"there are {nnz} connections to start from, but density {density} means {count}")
    if empty := next((name for name, number in active.items() if not number), None):
        raise UsageError(f"the connections to start from leave {empty} without any: each layer needs one")
    return [masks[name] for name in weights]
