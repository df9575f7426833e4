"""How much memory of tensors a piece of work takes, to the byte: temporary results inside operators included."""

import gc
from collections.abc import Callable, Iterable
from typing import NamedTuple

from torch import Tensor
from torch.nn import Parameter
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
    gc.collect()  # what others left is not to be freed, and counted, in the middle of the work
    gc.disable()
    try:
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
            work()
    finally:
        gc.enable()
    assert profiler.profiler is not None and profiler.profiler.kineto_results is not None
    changes = [(e.start_ns(), e.nbytes()) for e in profiler.profiler.kineto_results.events() if e.name() == "[memory]"]
    total = peak = 0
    for _, change in sorted(changes, key=lambda change: change[0]):
        total += change
        peak = max(peak, total)
    return Memory(peak / unit, total / unit)


def living() -> int:
    """Bytes of all tensors that Python holds; not of fake ones, which torch keeps of what it has compiled."""
    gc.collect()
    return bytes_of(thing for thing in gc.get_objects() if type(thing) in (Tensor, Parameter))


def bytes_of(tensors: Iterable[Tensor]) -> int:
    """Of their memory, once where several share it."""
    storages = [tensor.untyped_storage() for tensor in tensors]
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())
