"""Which connections exist at step 0."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from sparselearning.distributions import DISTRIBUTIONS, total_count
from sparselearning.errors import UsageError, choose
from sparselearning.selection import generator, k_largest_overall, random_mask
from sparselearning.snip import connection_sensitivity


def initial_masks(
    model: nn.Module,
    weights: Mapping[str, Tensor],
    init: str | Mapping[str, Tensor],
    density: float,
    seed: int,
    snip_batches: Iterable[tuple[Tensor, Tensor]] | None,
) -> dict[str, Tensor]:
    """Bool masks by parameter name, round(density · N) entries together, equal on every process.

    Args:
        weights: the maskable weights of the model by name.
        init: a distribution (`erk`, `er`, `uniform`), its positions drawn without replacement, `snip`, or masks.
        snip_batches: batches (inputs, labels) for SNIP, on the model's device.

    Raises:
        UsageError: the init is unknown, SNIP has no data, masks do not fit, or the density leaves a layer empty.
    """
    shapes = {name: weight.shape for name, weight in weights.items()}
    if not isinstance(init, str):
        masks = _given_masks(init, shapes, density)
    elif init == "snip":
        if snip_batches is None:
            raise UsageError("SNIP scores connections on data: give snip_batches")
        scores = connection_sensitivity(model, list(weights), snip_batches)
        masks = k_largest_overall(list(scores.values()), total_count(shapes, density))
    else:
        choose("sparse_init", init, (*DISTRIBUTIONS, "snip"))
        counts = DISTRIBUTIONS[init](shapes, density)
        masks = [random_mask(shapes[name], counts[name], generator(seed, "init", name)) for name in weights]
    # in the memory format of the weights, so that masking is one contiguous pass
    return {
        name: torch.zeros_like(weight, dtype=torch.bool).copy_(mask)
        for (name, weight), mask in zip(weights.items(), masks, strict=True)
    }


def _given_masks(given: Mapping[str, Tensor], shapes: Mapping[str, torch.Size], density: float) -> list[Tensor]:
    if {name: mask.shape for name, mask in given.items()} != shapes:
        raise UsageError("the connections to start from are those of another model")
    nnz, count = sum(int(mask.count_nonzero()) for mask in given.values()), total_count(shapes, density)
    if nnz != count:
        raise UsageError(f"there are {nnz} connections to start from, but density {density:g} means {count}")
    return [given[name] != 0 for name in shapes]
