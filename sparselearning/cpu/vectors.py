"""The innermost loops of sparse layers on a CPU, in LLVM's instructions by numba's intrinsics.

    out[o, p] = Σ_k values[k] · in[offsets[k] + p]    over the connections k of output channel o, for all positions p

A channel of the input is a padded map, so that a connection is one offset whatever its channel and its place in the
window. Sixteen outputs are a vector. The sums of a block of up to eight vectors stay in registers over all connections
of a channel, each of which costs one multiply-add a vector. Loops of numba's Python would keep them in memory, fifteen
times slower. The instructions are the same for every processor: LLVM splits the vectors to its size. Vectors that do
not begin at multiples of their size are narrow, eight outputs each, for fewer of them lie in two lines of the cache.

Arrays are given by their addresses; offsets and places count floats.
"""

from collections.abc import Callable, Iterable
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

LANES = 16  # floats of a vector: 512 bits
MOST = 8  # vectors of a block: their sums and one operand each fit the registers of AVX2 and AVX-512
WHOLE, NARROW, POOLED = 0, 16, 32  # kinds of blocks: of vectors; of half vectors; of those of which four become one
SIZE, FLOAT, INDEX = ir.IntType(64), ir.FloatType(), ir.IntType(32)
VECTOR = ir.VectorType(FLOAT, LANES)


def load(builder: Any, address: Any, kind: Any) -> Any:
    return builder.load(builder.inttoptr(address, kind.as_pointer()), align=4)


def _spread(builder: Any, number: Any, kind: Any) -> Any:
    """A vector of one number."""
    first = builder.insert_element(ir.Constant(kind, ir.Undefined), number, ir.Constant(INDEX, 0))
    zeros = ir.Constant(ir.VectorType(INDEX, kind.count), [0] * kind.count)
    return builder.shuffle_vector(first, ir.Constant(kind, ir.Undefined), zeros)


def element(builder: Any, array: Any, index: Any) -> Any:
    """The address of an array's element of four bytes."""
    return builder.add(array, builder.mul(index, ir.Constant(SIZE, 4)))


def places_at(builder: Any, base: Any, places: Any, vectors: int) -> list[Any]:
    """The addresses of a block's vectors: `base` and the places from the address `places` on."""
    offsets = [load(builder, builder.add(places, ir.Constant(SIZE, 4 * v)), INDEX) for v in range(vectors)]
    return [element(builder, base, builder.sext(offset, SIZE)) for offset in offsets]


def for_each_count(builder: Any, count: Any, counts: Iterable[int], emit: Callable[[int], None]) -> None:
    """Emit code for every one of the counts, and a jump to that of `count`."""
    done = builder.append_basic_block()
    switch = builder.switch(count, done)
    for n in counts:
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
    kind = sums[0].type.pointee
    with cgutils.for_range_slice(builder, start, end, ir.Constant(SIZE, turns), inc=True) as (first, _):
        for turn in range(turns):
            k = builder.add(first, ir.Constant(SIZE, turn))
            value = _spread(builder, load(builder, element(builder, values, k), FLOAT), kind)
            offset = builder.sext(load(builder, element(builder, offsets, k), INDEX), SIZE)
            for place, total in zip(inputs, sums[turn * len(inputs) :], strict=False):
                read = load(builder, element(builder, place, offset), kind)
                product = builder.fmul(value, read, flags=["contract"])  # with the sum one instruction
                builder.store(builder.fadd(builder.load(total), product, flags=["contract"]), total)


def _larger(builder: Any, one: Any, other: Any) -> Any:
    """Number by number; NaN is the largest."""
    above = builder.or_(builder.fcmp_ordered(">", one, other), builder.fcmp_unordered("uno", one, one))
    return builder.select(above, one, other)


def _largest(builder: Any, four: list[Any], within: bool) -> Any:
    """Of two vectors of a row and two of the next, or, `within` them, of squares of four numbers."""
    left, right = (_larger(builder, *column) for column in (four[::2], four[1::2]))
    if within:
        mask = ir.VectorType(INDEX, left.type.count)
        halves = [ir.Constant(mask, [2 * i + odd for i in range(mask.count)]) for odd in (0, 1)]
        left, right = (builder.shuffle_vector(left, right, half) for half in halves)
    return _larger(builder, left, right)


def _begin(builder: Any, sums: list[Any], summand: Any, add: Any, target: Any, out_places: Any) -> None:
    """Emit the first part's sums: of the bias, and of what stands in the output if it is to `add`."""
    for total in sums:
        builder.store(summand, total)
    with builder.if_then(add):
        for address, total in zip(places_at(builder, target, out_places, len(sums)), sums, strict=True):
            builder.store(builder.fadd(load(builder, address, summand.type), summand), total)


def _finish(builder: Any, which: int, totals: list[Any], floor: Any, target: Any, out_places: Any) -> None:
    """Emit what becomes of the last part's sums: pooled if the block is, not below the floor, in the output."""
    made = totals
    if which & POOLED:
        made = [_largest(builder, totals[i : i + 4], bool(which & NARROW)) for i in range(0, len(totals), 4)]
    for total, address in zip(made, places_at(builder, target, out_places, len(made)), strict=True):
        below = builder.fcmp_ordered("<", total, floor)  # of a NaN not: it stays one
        _store(builder, builder.select(below, floor, total), address)


def _channel(builder: Any, which: int, reads: list[Any], o: Any, own: Any, arguments: list[Any]) -> None:
    """Emit output channel o's sums of a block, whose inputs and sums between two parts are at these addresses."""
    out, plane, out_places, values, offsets, starts, bias, opens, closes, add, least = arguments
    kind, vectors = ir.VectorType(FLOAT, LANES // 2) if which & NARROW else VECTOR, len(reads)
    turns = max(MOST // 2 // vectors, 1)  # a multiply-add takes four cycles, in which others begin
    sums = [cgutils.alloca_once(builder, kind) for _ in range(turns * vectors)]  # type: ignore[no-untyped-call]
    beside = [builder.add(own, ir.Constant(SIZE, 4 * LANES * v)) for v in range(vectors)]
    target = element(builder, out, builder.mul(o, plane))
    for total in sums[vectors:]:
        builder.store(ir.Constant(kind, [0.0] * kind.count), total)
    with builder.if_else(opens) as (then, otherwise):
        with then:
            summand = _spread(builder, load(builder, element(builder, bias, o), FLOAT), kind)
            _begin(builder, sums[:vectors], summand, add, target, out_places)
        with otherwise:
            for address, total in zip(beside, sums, strict=False):
                builder.store(load(builder, address, kind), total)
    row = builder.add(starts, builder.mul(o, ir.Constant(SIZE, 8)))
    start, end = (load(builder, builder.add(row, ir.Constant(SIZE, 8 * i)), SIZE) for i in (0, 1))
    middle = builder.sub(end, builder.srem(builder.sub(end, start), ir.Constant(SIZE, turns)))
    _add_connections(builder, sums, turns, start, middle, values, offsets, reads)
    if turns > 1:
        _add_connections(builder, sums, 1, middle, end, values, offsets, reads)
    totals = [builder.load(total) for total in sums[:vectors]]
    for turn in range(1, turns):
        totals = [builder.fadd(x, builder.load(sums[turn * vectors + v])) for v, x in enumerate(totals)]
    with builder.if_else(closes) as (then, otherwise):
        with then:
            _finish(builder, which, totals, _spread(builder, least, kind), target, out_places)
        with otherwise:
            for total, address in zip(totals, beside, strict=True):
                _store(builder, total, address)


def _store(builder: Any, vector: Any, address: Any) -> None:
    builder.store(vector, builder.inttoptr(address, vector.type.as_pointer()), align=4)


def _block(builder: Any, which: int, vectors: int, arguments: list[Any]) -> None:
    """Emit the loop over output channels."""
    first, last, between, inputs, in_places, *rest, opens, closes, add, least = arguments
    flags = [builder.icmp_signed("!=", flag, ir.Constant(SIZE, 0)) for flag in (opens, closes, add)]
    reads = places_at(builder, inputs, in_places, vectors)
    with cgutils.for_range_slice(builder, first, last, ir.Constant(SIZE, 1), inc=True) as (o, _):
        own = element(builder, between, builder.mul(builder.sub(o, first), ir.Constant(SIZE, MOST * LANES)))
        _channel(builder, which, reads, o, own, [*rest, *flags, least])


@intrinsic
def sums(
    typing: Any, block: Any, first: Any, last: Any, between: Any, inputs: Any, in_places: Any, out: Any, plane: Any,
    out_places: Any, values: Any, offsets: Any, starts: Any, bias: Any, opens: Any, closes: Any, add: Any, least: Any,
) -> Any:  # fmt: skip
    """A part's share of a block of outputs, of the channels o from first to last: Σ values[k] · in[offsets[k] +
    in_places[v]] of all vectors v, over the connections k from starts[o] to starts[o + 1].

    The part that opens begins with bias[o], and what stands in `out` if it is to `add`; the others with the sums
    of the part before, which lie in `between`. The part that closes stores the sums, or `least` where that is more, at
    out[o · plane + out_places[v]]; of four POOLED vectors in turn the largest numbers, as one. `block` is its kind plus
    how many vectors it has.
    """

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        count, *rest = arguments
        counts = (0, range(1, MOST + 1)), (POOLED, range(4, MOST + 1, 4))
        blocks = [(which + more, n) for which in (WHOLE, NARROW) for more, ns in counts for n in ns]
        numbers = {which + n: (which, n) for which, n in blocks}
        for_each_count(builder, count, numbers, lambda number: _block(builder, *numbers[number], rest))
        return context.get_dummy_value()

    return types.void(*[types.int64] * 16, types.float32), emit


@intrinsic
def turn(typing: Any, source: Any, step: Any, target: Any, pitch: Any) -> Any:
    """target[j · pitch + i] = source[i · step + j] for i, j < 16: addresses, and floats from a vector to the next."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        source, step, target, pitch = arguments

        def address(base: Any, floats: Any, i: int) -> Any:
            far = builder.mul(floats, ir.Constant(SIZE, 4 * i))
            return builder.inttoptr(builder.add(base, far), VECTOR.as_pointer())

        vectors = [builder.load(address(source, step, i), align=4) for i in range(LANES)]
        for half in (8, 4, 2, 1):  # exchange blocks of half the size across the diagonal
            low = [half * 2 * (j // (half * 2)) + j % half for j in range(LANES)]
            upper = [low[j] + (LANES if j % (half * 2) >= half else 0) for j in range(LANES)]
            masks = [ir.Constant(ir.VectorType(INDEX, LANES), [i + more for i in upper]) for more in (0, half)]
            for i in range(LANES):
                if i % (2 * half) < half:
                    pair = vectors[i], vectors[i + half]
                    vectors[i], vectors[i + half] = (builder.shuffle_vector(*pair, mask) for mask in masks)
        for i, vector in enumerate(vectors):
            builder.store(vector, address(target, pitch, i), align=4)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 4), emit
