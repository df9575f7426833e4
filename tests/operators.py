"""How many operators a piece of work needs, and how often the host would wait for a GPU in it.

No GPU is needed to see that: operators and reads of tensors are the same on every device.
"""

from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten
# whose results have a size that depends on numbers, or are numbers that Python reads
_WAITING = {
    aten._local_scalar_dense, aten.nonzero, aten.bincount, aten.masked_select, aten.equal, aten.is_nonzero,
    aten._unique2, aten.unique_dim, aten.unique_consecutive, aten.repeat_interleave,
}  # fmt: skip
_IDLE = {aten.empty, aten.empty_like, aten.empty_strided, aten.new_empty, aten._unsafe_view, aten.lift_fresh}
_INDEXING = {aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_}  # by a bool mask: nonzero inside
_READING = {Tensor.tolist, Tensor.numpy, Tensor.cpu}  # to the host
_COPYING = {torch.tensor, torch.as_tensor, torch.from_numpy}  # of what Python holds, to a device


class Count(TorchDispatchMode):
    """Counts while it is entered.

    Attributes:
        operators: {name: times}, without views and allocations, which start nothing on a device.
        waits: {name: times} of all that makes the host wait for a GPU.
    """

    def __init__(self) -> None:
        super().__init__()
        self.operators: Counter[str] = Counter()
        self.waits: Counter[str] = Counter()
        self._reads = _Reads(self.waits)

    def __enter__(self) -> "Count":
        self._reads.__enter__()
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._reads.__exit__(*error)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        packet = func.overloadpacket
        if not func.is_view and packet not in _IDLE:
            self.operators[str(packet)] += 1
        masks = packet in _INDEXING and any(i is not None and i.dtype == torch.bool for i in args[1])
        if packet in _WAITING or masks:
            self.waits[str(packet)] += 1
        return func(*args, **(kwargs or {}))


class _Reads(TorchFunctionMode):
    """Counts reads and copies that reach no operator where host and device are one."""

    def __init__(self, waits: Counter[str]) -> None:
        super().__init__()
        self.waits = waits

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        moved = func is Tensor.to and any(isinstance(a, torch.device | str) for a in (*args[1:], *kwargs.values()))
        if func in _READING or func in _COPYING or (moved and not kwargs.get("non_blocking")):
            self.waits[func.__name__] += 1
        return func(*args, **kwargs)


def count(work: Callable[[], object]) -> Count:
    with Count() as counted:
        work()
    return counted
