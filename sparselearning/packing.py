"""Tickets at their information size: of a sparse weight the values of its connections, and where they are.

A weight of N numbers with n connections, in the order of the flattened weight, becomes

    values      (n)     its numbers that are not zero, in their own number type or a shorter one
    quotients   (bytes) of each gap, the number of zeros before a connection, gap >> k: as many bits 0, and a bit 1
    remainders  (bytes) of each gap its k lowest bits, the lowest first

with bit i of such a sequence in byte i // 8, there the bit of value 2^(i mod 8). This is Rice's code (Rice 1979, Golomb
1966), its two parts kept apart so that it is read without a loop over the connections. The k that makes it shortest is
taken; with k = 0 the quotients are a bitmask. Random positions of up to half of the weights take at most 5 % more than
their entropy, those of a twentieth 1 %: 0.29 bits for each of the N weights.
"""

from collections.abc import Mapping
from math import prod
from typing import NamedTuple, TypedDict

import torch
from torch import Tensor

from sparselearning.errors import UsageError, shown
from sparselearning.kinds import kind_of
from sparselearning.layers import bits

PARTS = ("values", "quotients", "remainders")
VALUES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
FLOATS = {"float64": torch.float64, "float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_FREE, _RATIO = 64 * 2**20, 1000  # a small file must not fill the memory


class Place(TypedDict):
    """What the layout of a file says of a packed weight: its shape, number type and `k` of its code."""

    shape: list[int]
    dtype: str
    k: int


Layout = dict[str, Place]


class Packed(NamedTuple):
    """A weight as its connections; `k` is the number of bits of a remainder."""

    values: Tensor
    quotients: Tensor
    remainders: Tensor
    k: int

    @property
    def nbytes(self) -> int:
        return self.values.nbytes + self.quotients.nbytes + self.remainders.nbytes


def encode(weight: Tensor) -> Packed:
    """The connections of a floating-point weight of any shape: all that is not zero to the bit, so -0.0 is one."""
    flat = weight.contiguous().flatten()
    positions = bits(flat).nonzero().flatten()
    gaps = torch.diff(positions, prepend=positions.new_tensor([-1])) - 1
    k = _shortest(gaps)
    ends = ((gaps >> k) + 1).cumsum(0)
    quotients = torch.zeros(int(ends[-1]) if len(ends) else 0, dtype=torch.bool)
    quotients[ends - 1] = True
    remainders = gaps.new_empty(len(gaps), k, dtype=torch.bool)
    for bit in range(k):
        remainders[:, bit] = (gaps >> bit & 1).bool()
    return Packed(flat[positions], _to_bytes(quotients), _to_bytes(remainders.flatten()), k)


def _shortest(gaps: Tensor) -> int:
    """The k with which gaps take the fewest bits: n·(k + 1) and the sum of their quotients."""
    largest = int(gaps.max()) if len(gaps) else 0
    return min(range(largest.bit_length() + 1), key=lambda k: k * len(gaps) + int((gaps >> k).sum()))


def decode(packed: Packed, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """The weight that `encode` was given; its memory is the weight's and a few times that of the packed form.

    Raises:
        UsageError: counts or positions do not fit each other or the shape.
    """
    values, quotients, remainders, k = packed
    size, count = prod(shape), len(values)
    if count > size or not 0 <= k <= size.bit_length():
        raise UsageError(f"{count} connections with remainders of {k} bits do not fit into the shape {shown(shape)}")
    if len(remainders) != -(-count * k // 8) or 8 * len(quotients) >= count + (size >> k) + 8:
        raise UsageError(f"the gaps between {count} connections have {len(quotients)} and {len(remainders)} bytes")
    ends = _to_bits(quotients).nonzero().flatten()
    if len(ends) != count:
        raise UsageError(f"there are {len(ends)} gaps for {count} connections")
    gaps = (torch.diff(ends, prepend=ends.new_tensor([-1])) - 1) << k
    lowest = _to_bits(remainders)[: count * k].view(count, k)
    for bit in range(k):
        gaps |= lowest[:, bit].long() << bit
    positions = (gaps + 1).cumsum(0) - 1
    if count and int(positions.max()) >= size:  # no step is longer than 2·size: none leaps over the end and past int64
        raise UsageError(f"connections lie outside the shape {shown(shape)}")
    flat = torch.zeros(size, dtype=dtype)
    flat[positions] = values.to(dtype)
    return flat.view(shape)


def _to_bytes(sequence: Tensor) -> Tensor:
    """bool (n) → uint8 (⌈n / 8⌉)."""
    padded = torch.nn.functional.pad(sequence.to(torch.uint8), (0, -len(sequence) % 8))
    return (padded.view(-1, 8) << torch.arange(8, dtype=torch.uint8)).sum(1, dtype=torch.uint8)


def _to_bits(data: Tensor) -> Tensor:
    """uint8 (n) → bool (8·n)."""
    return (data[:, None] >> torch.arange(8, dtype=torch.uint8) & 1).bool().flatten()


def pack(ticket: Mapping[str, Tensor], values: str | None = None) -> tuple[dict[str, Tensor], Layout]:
    """A state dict with its sparse weights as connections; what `unpack` gives back is equal to the bit.

    Weights are the floating-point tensors of two dimensions or more. Those that are no smaller as connections stay as
    they are, and so does everything else: biases, what belongs to batch norm.

    Args:
        ticket: tensors by name, on any device.
        values: round connections to `fp32`, `bf16` or `fp16` where their own number type is longer. One that would
            become zero becomes the smallest number instead, and stays a connection.

    Returns:
        the tensors to store, NAME.values, NAME.quotients and NAME.remainders for a weight NAME, and the layout
        {NAME: {"shape": [...], "dtype": "float32", "k": bits of a remainder}} of the weights that are packed.

    Raises:
        UsageError: connections are beyond the range of `values`, or names would stand for two tensors.
    """
    tensors: dict[str, Tensor] = {}
    layout: Layout = {}
    for name, tensor in ticket.items():
        if not isinstance(tensor, Tensor) or tensor.is_meta or tensor.layout != torch.strided:
            raise UsageError(f"{name} of the ticket is {kind_of(tensor)}, not a dense tensor that has its data")
        tensor = tensor.detach().cpu()
        dtype = str(tensor.dtype).removeprefix("torch.")
        if dtype in FLOATS and tensor.ndim > 1:
            packed = encode(tensor)
            if values is not None:
                packed = packed._replace(values=_rounded(name, packed.values, values))
            if packed.nbytes < tensor.nbytes:
                tensors |= zip((f"{name}.{part}" for part in PARTS), packed[:3], strict=True)
                layout[name] = {"shape": list(tensor.shape), "dtype": dtype, "k": packed.k}
                continue
        tensors[name] = tensor.clone(memory_format=torch.contiguous_format)  # what is tied has memory of its own
    if len(tensors) != len(ticket) + (len(PARTS) - 1) * len(layout):
        raise UsageError(f"a tensor of the ticket is named like a part of a packed one, NAME.{' or NAME.'.join(PARTS)}")
    return tensors, layout


def _rounded(name: str, own: Tensor, values: str) -> Tensor:
    dtype = VALUES[values]
    if dtype.itemsize >= own.element_size():
        return own
    new = own.to(dtype)
    if int((new.isinf() & own.isfinite()).sum()):
        raise UsageError(f"{name} has connections of up to {own[own.isfinite()].abs().max():.3g}, which {values} "
                         f"cannot hold: use bf16 or fp32")  # fmt: skip
    smallest = torch.finfo(dtype).smallest_normal * torch.finfo(dtype).eps
    return torch.where((new == 0) & (own != 0), torch.full_like(new, smallest).copysign(own.to(dtype)), new)


def unpack(tensors: Mapping[str, Tensor], layout: object) -> dict[str, Tensor]:
    """The state dict that `pack` was given; its packed weights take at most 64 MiB and 1,000 times their packed size.

    Raises:
        UsageError: the layout is none, does not fit the tensors, or asks for more memory.
    """
    if not isinstance(layout, dict):
        raise UsageError(f"its layout is {kind_of(layout)}")
    weights = {name: _weight(name, about) for name, about in layout.items()}
    taken = sum(prod(shape) * dtype.itemsize for shape, dtype, _ in weights.values())
    if taken > _FREE + _RATIO * sum(tensor.nbytes for tensor in tensors.values()):
        raise UsageError(f"{taken / 1e6:,.0f} MB of weights are out of proportion to what is stored of them")
    ticket = {**tensors}
    for name, (shape, dtype, k) in weights.items():
        parts = [ticket.pop(f"{name}.{part}") for part in PARTS if f"{name}.{part}" in ticket]
        if name in ticket or len(parts) < len(PARTS) or any(part.ndim != 1 for part in parts):
            raise UsageError(f"it does not hold {', '.join(PARTS)} of {shown(name)}")
        values, quotients, remainders = parts
        if values.dtype not in FLOATS.values() or torch.promote_types(values.dtype, dtype) != dtype:
            raise UsageError(f"the values of {shown(name)} are {kind_of(values)}")
        if (quotients.dtype, remainders.dtype) != (torch.uint8, torch.uint8):
            raise UsageError(f"the positions of {shown(name)} are no bytes")
        try:
            ticket[name] = decode(Packed(values, quotients, remainders, k), shape, dtype)
        except UsageError as error:
            raise UsageError(f"of {shown(name)}, {error}") from error
    return ticket


def _weight(name: str, about: object) -> tuple[tuple[int, ...], torch.dtype, int]:
    """(shape, number type, k) of a packed weight. Raises UsageError where its part of the layout is not as `pack`'s."""
    said: Mapping[str, object] = about if isinstance(about, dict) else {}
    shape, dtype, k = (said.get(key) for key in ("shape", "dtype", "k"))
    if not isinstance(shape, list) or len(shape) > 64 or type(k) is not int:
        raise UsageError(f"its layout says of {shown(name)} that it is {shown(said)}")
    # each size has a limit, since a size of zero would hide the others from that of the memory
    if not all(type(size) is int and 0 <= size < 2**40 for size in shape):
        raise UsageError(f"its layout says of {shown(name)} that its shape is {shown(shape)}")
    if not isinstance(dtype, str) or dtype not in FLOATS:
        raise UsageError(f"its layout says of {shown(name)} that its numbers are {shown(dtype)}")
    return tuple(shape), FLOATS[dtype], k
