"""Exact selection of weights: pure functions on tensors.

Every choice that a sparse training method makes is "the k largest of these scores". Here it is made exactly: k is a
count and the result has k entries, whatever ties, zeros or infinities the scores hold. Equal scores are taken in the
order of their position, so that every process, device and run selects the same weights.
"""

import math
import zlib
from collections.abc import Sequence

import torch
from torch import Tensor

_LARGEST = torch.iinfo(torch.int32).max
_SIGN = torch.iinfo(torch.int32).min
_SHIFTS = (20, 10, 0)  # of the digits of a key: 11 bits below the sign, then 10 and 10
_PIECE = 1 << 20  # keys that are counted at a time, so that what is made of them stays in the cache


def seed_of(*key: object) -> int:
    """A seed that depends on `key` alone; 32 bits, because torch's CPU generator reads no more of it."""
    return zlib.crc32(repr(key).encode())


def generator(*key: object) -> torch.Generator:
    """A CPU generator that depends on `key` alone, e.g. (seed, "growth", update, layer): the same on every process."""
    return torch.Generator().manual_seed(seed_of(*key))


def random_mask(shape: Sequence[int], k: int, rng: torch.Generator) -> Tensor:
    """A bool mask of `shape` with exactly k entries, drawn without replacement."""
    mask = torch.zeros(math.prod(shape), dtype=torch.bool)
    dtype = torch.int32 if mask.numel() <= _LARGEST else torch.int64  # the same order, in half of the memory
    mask[torch.randperm(mask.numel(), generator=rng, dtype=dtype)[:k].long()] = True
    return mask.view(tuple(shape))


def _bits(scores: Tensor) -> Tensor:
    """The bits of scores in single precision, laid out like the scores.

    But for the sign, the bits of floats, read as integers, have the order of the floats; NaN comes out on top. So they
    are sort keys once the sign is cleared, and once it is set where nothing may be selected.
    """
    return scores.float().view(torch.int32)


def _in_memory(keys: Tensor) -> Tensor:
    """The same keys in one dimension, in whatever order they are in memory."""
    return keys.as_strided((keys.numel(),), (1,))


def _k_largest(keys: Tensor, k: int) -> Tensor:
    """A bool mask of the k largest keys, none of them negative, laid out like the keys; ties by position (row-major).

    On a CPU, where nothing waits, counting finds the k-th largest in a tenth of the time of `topk`. On a GPU the host
    would wait for each count; there `topk` is fast, and the boundary stays on the device.
    """
    return (_by_counting if keys.device.type == "cpu" else _by_topk)(keys, k)


def _by_counting(keys: Tensor, k: int) -> Tensor:
    """A radix selection: count the upper digits, then the next ones of the keys that share the boundary digit."""
    kth, missing, left = 0, k, _in_memory(keys)
    for shift in _SHIFTS:
        pieces = torch.split(left, _PIECE)
        counts = [torch.bincount((piece >> shift).clamp_(min=0), minlength=1 << 11) for piece in pieces]
        up_to = torch.stack(counts).sum(0).cumsum(0)
        boundary = int((up_to <= len(left) - missing).sum())
        missing -= len(left) - int(up_to[boundary])
        left = torch.cat([piece[piece >> shift == boundary] for piece in pieces]) - (boundary << shift)
        kth += boundary << shift
    mask = keys >= kth
    if missing < len(left):
        surplus = (keys == kth).flatten().nonzero()[missing:]
        mask.put_(surplus, torch.zeros_like(surplus, dtype=torch.bool))
    return mask


def _by_topk(keys: Tensor, k: int) -> Tensor:
    """The k-th largest stays on the device, with all that follows from it."""
    top = _in_memory(keys).topk(k, sorted=False).values
    kth = top.amin()
    ties = (keys == kth).flatten()
    early = ties.cumsum(0, dtype=torch.int32) <= (top == kth).sum()
    return keys > torch.add(kth, early.view(keys.shape), alpha=-1)  # at least kth where a tie comes early


def k_largest(scores: Tensor, k: int, barred: Tensor | None = None) -> Tensor:
    """Select exactly the k largest scores.

    Args:
        scores: any shape; their magnitudes are compared in single precision.
        k: how many, at most the number of candidates.
        barred: bool mask of the positions that are no candidates, shaped like the scores (none).

    Returns:
        Bool mask shaped like the scores, with k entries; among equal scores the first positions (row-major) win.
    """
    if k == 0:
        return torch.zeros_like(scores, dtype=torch.bool)
    keys = _bits(scores) & _LARGEST
    return _k_largest(keys if barred is None else keys.add_(barred, alpha=_SIGN), k)


def k_largest_overall(scores: Sequence[Tensor], k: int, barred: Sequence[Tensor] | None = None) -> list[Tensor]:
    """Select exactly the k largest scores of all layers together; every layer keeps at least its best one.

    Args:
        scores: one tensor per layer; their magnitudes are compared in single precision.
        k: how many in total, at least one per layer.
        barred: bool masks of the positions that are no candidates, one per layer, none of them full (none).

    Returns:
        One bool mask per layer, shaped like its scores. Ties are won by the earlier layer, then the earlier position.
    """
    sizes = [layer.numel() for layer in scores]
    keys = _joined([_bits(layer) for layer in scores]).bitwise_and_(_LARGEST).clamp_(max=_LARGEST - 1)
    if barred is not None:
        keys.add_(_joined(barred), alpha=_SIGN)
    for layer in keys.split_with_sizes(sizes):
        layer.index_fill_(0, layer.argmax(), _LARGEST)  # argmax gives the first maximum
    masks = _k_largest(keys, k).split_with_sizes(sizes)
    return [mask.view(layer.shape) for mask, layer in zip(masks, scores, strict=True)]


def _joined(layers: Sequence[Tensor]) -> Tensor:
    """All numbers of all layers in one dimension, those of a layer row-major."""
    sizes = [layer.numel() for layer in layers]
    joined = layers[0].new_empty(sum(sizes))
    parts = [part.view(layer.shape) for part, layer in zip(joined.split_with_sizes(sizes), layers, strict=True)]
    torch._foreach_copy_(parts, list(layers))
    return joined


def drop_count(prune_rate: float, active: int, limit: int) -> int:
    """How many connections a layer loses: ⌈p·nnz⌉, at most `limit`."""
    # p·nnz may come out just above an integer in binary: 0.3·10 must be 3, not 4
    return min(math.ceil(prune_rate * active - 1e-9), limit)
