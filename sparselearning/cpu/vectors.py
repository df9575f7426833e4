"""The innermost loops of sparse layers on a CPU, in LLVM's instructions by numba's intrinsics.

    out[o, p] = Σ_k values[k] · in[offsets[k] + p]    over the connections k of output channel o, for all positions p

A channel of the input is a padded map, so that a connection is one offset whatever its channel and its place in the
window. Sixteen outputs are a vector. The sums of a block of up to eight vectors stay in registers over all connections
of a channel, each of which costs one multiply-add a vector. Loops of numba's Python would keep them in memory, fifteen
times slower. The instructions are the same for every processor: LLVM splits the vectors to its size.

Arrays are given by their addresses; offsets and places count floats.
"""

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

LANES = 16  # floats of a vector: 512 bits
MOST = 8  # vectors of a block: their sums and one operand each fit the registers of AVX2 and AVX-512
SIZE, FLOAT, INDEX = ir.IntType(64), ir.FloatType(), ir.IntType(32)
VECTOR = ir.VectorType(FLOAT, LANES)


def load(builder: Any, address: Any, kind: Any) -> Any:
    return builder.load(builder.inttoptr(address, kind.as_pointer()), align=4)


def _spread(builder: Any, number: Any) -> Any:
    """A vector of one number."""
    first = builder.insert_element(ir.Constant(VECTOR, ir.Undefined), number, ir.Constant(INDEX, 0))
    zeros = ir.Constant(ir.VectorType(INDEX, LANES), [0] * LANES)
    return builder.shuffle_vector(first, ir.Constant(VECTOR, ir.Undefined), zeros)


def element(builder: Any, array: Any, index: Any) -> Any:
    """The address of an array's element of four bytes."""
    return builder.add(array, builder.mul(index, ir.Constant(SIZE, 4)))


def places_at(builder: Any, base: Any, places: Any, vectors: int) -> list[Any]:
    """The addresses of a block's vectors: `base` and the places from the address `places` on."""
    offsets = [load(builder, builder.add(places, ir.Constant(SIZE, 4 * v)), INDEX) for v in range(vectors)]
    return [element(builder, base, builder.sext(offset, SIZE)) for offset in offsets]


def for_each_count(builder: Any, count: Any, most: int, emit: Callable[[int], None]) -> None:
    """Emit code for every number of vectors, 1 … most, and a jump to that of `count`."""
    done = builder.append_basic_block()
    switch = builder.switch(count, done)
    for n in range(1, most + 1):
        block = builder.append_basic_block()
        switch.add_case(ir.Constant(count.type, n), block)
        with builder.goto_block(block):
            emit(n)
            builder.branch(done)
    builder.position_at_end(done)


def _add_connections(
    builder: Any, sums: list[Any], turns: int, start: Any, end: Any, values: Any, offsets: Any, inputs: list[Any]
) -> None:
    """Emit the loop over connections start … end, `turns` of them at a time, each with sums of its own."""
    with cgutils.for_range_slice(builder, start, end, ir.Constant(SIZE, turns), inc=True) as (first, _):
        for turn in range(turns):
            k = builder.add(first, ir.Constant(SIZE, turn))
            value = _spread(builder, load(builder, element(builder, values, k), FLOAT))
            offset = builder.sext(load(builder, element(builder, offsets, k), INDEX), SIZE)
            for place, total in zip(inputs, sums[turn * len(inputs) :], strict=False):
                read = load(builder, element(builder, place, offset), VECTOR)
                product = builder.fmul(value, read, flags=["contract"])  # with the sum one instruction
                builder.store(builder.fadd(builder.load(total), product, flags=["contract"]), total)


def _block(builder: Any, vectors: int, arguments: list[Any]) -> None:
    """Emit one channel's sums of a block."""
    out, inputs, values, offsets, start, end, in_places, out_places, bias, kept, least = arguments
    turns = max(MOST // 2 // vectors, 1)  # a multiply-add takes four cycles, in which others begin
    outputs = places_at(builder, out, out_places, vectors)
    sums = [cgutils.alloca_once(builder, VECTOR) for _ in range(turns * vectors)]  # type: ignore[no-untyped-call]
    for total in sums[vectors:]:
        builder.store(ir.Constant(VECTOR, [0.0] * LANES), total)
    with builder.if_else(builder.icmp_signed("!=", kept, ir.Constant(SIZE, 0))) as (then, otherwise):
        with then:
            for address, total in zip(outputs, sums, strict=False):
                builder.store(builder.fadd(load(builder, address, VECTOR), _spread(builder, bias)), total)
        with otherwise:
            for _, total in zip(outputs, sums, strict=False):
                builder.store(_spread(builder, bias), total)
    middle = builder.sub(end, builder.srem(builder.sub(end, start), ir.Constant(SIZE, turns)))
    reads = places_at(builder, inputs, in_places, vectors)
    _add_connections(builder, sums, turns, start, middle, values, offsets, reads)
    if turns > 1:
        _add_connections(builder, sums, 1, middle, end, values, offsets, reads)
    floor = _spread(builder, least)
    for v, address in enumerate(outputs):
        total = builder.load(sums[v])
        for turn in range(1, turns):
            total = builder.fadd(total, builder.load(sums[turn * vectors + v]))
        below = builder.fcmp_ordered("<", total, floor)  # of a NaN not: it stays one
        total = builder.select(below, floor, total)
        builder.store(total, builder.inttoptr(address, VECTOR.as_pointer()), align=4)


@intrinsic
def sums(
    typing: Any, vectors: Any, out: Any, inputs: Any, values: Any, offsets: Any, start: Any, end: Any, in_places: Any,
    out_places: Any, bias: Any, kept: Any, least: Any,
) -> Any:  # fmt: skip
    """out[out_places[v]] = max(least, kept · out[…] + bias + Σ values[k] · in[offsets[k] + in_places[v]]), all v, k."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        count, *rest = arguments
        for_each_count(builder, count, MOST, lambda n: _block(builder, n, rest))
        return context.get_dummy_value()

    return types.void(*[types.int64] * 9, types.float32, types.int64, types.float32), emit
