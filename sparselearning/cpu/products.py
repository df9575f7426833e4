"""The gradient of connections: a dot product each, of a channel of the output's gradient and one of the input."""

from typing import Any

import numba
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from sparselearning.cpu.kernels import kernel
from sparselearning.cpu.vectors import FLOAT, INDEX, LANES, SIZE, VECTOR, element, for_each_count, load, places_at

LONGEST = 16  # vectors of a block: of the output's gradient, in registers beside the sums
SUMS = 4  # of a connection, for a multiply-add takes four cycles


def _block(builder: Any, reduce: Any, vectors: int, arguments: list[Any]) -> None:
    """Emit the products of one output channel's connections with a block."""
    products, gradient, inputs, offsets, start, end, out_places, in_places = arguments
    reads = places_at(builder, inputs, in_places, vectors)
    known = [load(builder, place, VECTOR) for place in places_at(builder, gradient, out_places, vectors)]
    with cgutils.for_range_slice(builder, start, end, ir.Constant(SIZE, 1), inc=True) as (k, _):
        offset = builder.mul(builder.sext(load(builder, element(builder, offsets, k), INDEX), SIZE), SIZE(4))
        sums: list[Any] = []
        for v, place in enumerate(reads):
            read = load(builder, builder.add(place, offset), VECTOR)
            product = builder.fmul(known[v], read, flags=["contract"])
            if v < SUMS:
                sums.append(product)
            else:
                sums[v % SUMS] = builder.fadd(sums[v % SUMS], product, flags=["contract"])
        while len(sums) > 1:
            sums = [builder.fadd(*sums[i : i + 2]) if i + 1 < len(sums) else sums[i] for i in range(0, len(sums), 2)]
        target = builder.inttoptr(element(builder, products, k), FLOAT.as_pointer())
        total = builder.call(reduce, [builder.load(target, align=4), sums[0]], fastmath=["reassoc"])
        builder.store(total, target, align=4)


@intrinsic
def dots(
    typing: Any, vectors: Any, products: Any, gradient: Any, inputs: Any, offsets: Any, start: Any, end: Any,
    out_places: Any, in_places: Any,
) -> Any:  # fmt: skip
    """products[k] += Σ gradient[out_places[v]] · in[offsets[k] + in_places[v]], over all v and lanes, for each k."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        count, *rest = arguments
        reduce = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(FLOAT, [FLOAT, VECTOR]), f"llvm.vector.reduce.fadd.v{LANES}f32"
        )  # type: ignore[no-untyped-call]
        for_each_count(builder, count, range(1, LONGEST + 1), lambda n: _block(builder, reduce, n, rest))
        return context.get_dummy_value()

    return types.void(*[types.int64] * 9), emit


@kernel
def multiply(
    products: Any, gradient: Any, x: Any, offsets: Any, starts: Any, out_places: Any, in_places: Any, shares: int
) -> None:
    """products[k] += Σ_v gradient[o, out_places[v]] · x[offsets[k] + in_places[v]] for the connections k of channels o.

    Args:
        products: float32 of shape (connections,).
        gradient, x: of the output, and the input, in tiles.
        offsets, starts: as `kernels.convolve` takes them.
        out_places, in_places: int32 of shape (vectors,).
        shares: groups of channels, a thread's task each.
    """
    vectors, parts, channels = len(in_places), len(starts), starts.shape[1] - 1
    blocks = (vectors + LONGEST - 1) // LONGEST
    for share in numba.prange(shares):
        for block in range(blocks):
            start, end = block * vectors // blocks, (block + 1) * vectors // blocks
            sources, targets = in_places.ctypes.data + 4 * start, out_places.ctypes.data + 4 * start
            for part in range(parts):
                for o in range(share * channels // shares, (share + 1) * channels // shares):
                    dots(  # type: ignore[call-arg]
                        end - start, products.ctypes.data, gradient.ctypes.data + 4 * LANES * o, x.ctypes.data,
                        offsets.ctypes.data, starts[part, o], starts[part, o + 1], targets, sources,
                    )  # fmt: skip
