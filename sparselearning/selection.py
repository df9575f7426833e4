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

_FIRST_CHOICE = torch.iinfo(torch.int32).max
_DIGITS = (20, 10, 0)  # shifts; digits of 11 bits, overlapping by one that the digit before has settled
_DIGIT_MASK = (1 << 11) - 1


def seed_of(*key: object) -> int:
    """A seed that depends on `key` alone; 32 bits, because torch's CPU generator reads no more of it."""
    return zlib.crc32(repr(key).encode())


def generator(*key: object) -> torch.Generator:
    """A CPU generator that depends on `key` alone, e.g. (seed, "growth", update, layer): the same on every process."""
    return torch.Generator().manual_seed(seed_of(*key))


def random_mask(shape: Sequence[int], k: int, rng: torch.Generator) -> Tensor:
    """A bool mask of `shape` with exactly k entries, drawn without replacement."""
    mask = torch.zeros(math.prod(shape), dtype=torch.bool)
    mask[torch.randperm(mask.numel(), generator=rng)[:k]] = True
    return mask.view(tuple(shape))


def _sort_keys(scores: Tensor, among: Tensor | None) -> Tensor:
    """Flat int32 keys in the order of the scores; 0 marks what must not be selected.

    The bits of non-negative floats, read as integers, have the order of the floats; NaN comes out on top.
    """
    keys = scores.float().flatten().view(torch.int32).clamp(max=_FIRST_CHOICE - 2) + 1
    return keys if among is None else keys.mul_(among.flatten())


def _kth_largest(keys: Sequence[Tensor], k: int) -> tuple[int, int, int]:
    """The k-th largest key, how many keys equal to it are among the k, and how many there are.

    A radix selection: count the upper digits, then the next ones of what shares the boundary digit. It reads all keys
    once or twice and moves few of them; sorting, or `topk` on a CPU, takes ten times as long.
    """
    kth = 0
    for shift in _DIGITS:
        digits = [key >> shift & _DIGIT_MASK for key in keys]
        counts = torch.stack([torch.bincount(digit, minlength=_DIGIT_MASK + 1) for digit in digits]).sum(0)
        up_to = counts.cumsum(0)
        total = int(up_to[-1])
        boundary = int((up_to <= total - k).sum())
        k -= total - int(up_to[boundary])
        keys = [key[digit == boundary] for key, digit in zip(keys, digits, strict=True)]
        kth |= boundary << shift
    return kth, k, sum(len(key) for key in keys)


def _k_largest(keys: Sequence[Tensor], k: int) -> list[Tensor]:
    """Bool masks of the k largest keys of all layers together, ties by position."""
    kth, missing, equal = _kth_largest(keys, k)
    if missing == equal:
        return [key >= kth for key in keys]
    masks = []
    for key in keys:
        mask = key > kth
        ties = (key == kth).nonzero().squeeze(1)[:missing]
        mask[ties] = True
        missing -= len(ties)
        masks.append(mask)
    return masks


def k_largest(scores: Tensor, k: int, among: Tensor | None = None) -> Tensor:
    """Select exactly the k largest scores.

    Args:
        scores: non-negative, any shape; compared in single precision.
        k: how many, at most the number of candidates.
        among: bool mask of the candidates, shaped like the scores (all).

    Returns:
        Bool mask shaped like the scores, with k entries; among equal scores the first positions (row-major) win.
    """
    if k == 0:
        return torch.zeros_like(scores, dtype=torch.bool)
    return _k_largest([_sort_keys(scores, among)], k)[0].view(scores.shape)


def k_largest_overall(scores: Sequence[Tensor], k: int, among: Sequence[Tensor] | None = None) -> list[Tensor]:
    """Select exactly the k largest scores of all layers together; every layer keeps at least its best one.

    Args:
        scores: one non-negative tensor per layer.
        k: how many in total, at least one per layer.
        among: bool masks of the candidates, one per layer, none of them empty (all).

    Returns:
        One bool mask per layer, shaped like its scores. Ties are won by the earlier layer, then the earlier position.
    """
    masks: Sequence[Tensor | None] = among if among is not None else [None] * len(scores)
    keys = [_sort_keys(s, m) for s, m in zip(scores, masks, strict=True)]
    for layer in keys:
        layer[layer.argmax()] = _FIRST_CHOICE  # argmax gives the first maximum
    return [mask.view(s.shape) for mask, s in zip(_k_largest(keys, k), scores, strict=True)]


def drop_count(prune_rate: float, active: int, limit: int) -> int:
    """How many connections a layer loses: ⌈p·nnz⌉, at most `limit`."""
    # p·nnz may come out just above an integer in binary: 0.3·10 must be 3, not 4
    return min(math.ceil(prune_rate * active - 1e-9), limit)
