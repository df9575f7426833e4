"""How much memory of tensors a piece of work takes, to the byte: temporary results inside operators included."""

import gc
from collections.abc import Callable, Iterable
from typing import NamedTuple

from torch import Tensor
from torch.profiler import ProfilerActivity, profile


class Memory(NamedTuple):
    """Of tensors on a CPU, beyond those that were there before.

    Attributes:
        peak: the most at any moment of the work.
        left: after it.
    """

    peak: float
    left: float


def memory_of(work: Callable[[], object], unit: float = 1.0) -> Memory:
    """What the allocator hands out and gets back in the work, in units of so many bytes."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        work()
    assert profiler.profiler is not None and profiler.profiler.kineto_results is not None
    changes = [(e.start_ns(), e.nbytes()) for e in profiler.profiler.kineto_results.events() if e.name() == "[memory]"]
    total = peak = 0
    for _, change in sorted(changes, key=lambda change: change[0]):
        total += change
        peak = max(peak, total)
    return Memory(peak / unit, total / unit)


def living() -> int:
    """Bytes of all tensors that Python holds."""
    gc.collect()
    return bytes_of(thing for thing in gc.get_objects() if issubclass(type(thing), Tensor))


def bytes_of(tensors: Iterable[Tensor]) -> int:
    """Of their memory, once where several share it."""
    storages = [tensor.untyped_storage() for tensor in tensors]
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())
