"""A sparse weight as its connections and back: to the bit, at its information size, or refused in one line."""

import math

import pytest
import torch
from torch import Tensor

from sparselearning.packing import FLOATS, VALUES, decode, encode, pack, unpack
from tests.exact import bits
from tests.misuse import every, inf, nan, refused
from tests.tickets import sparse, sparse_network

MARK = 2.0**-100  # of an active connection whose weight is zero


def integers(weight: Tensor) -> list[int]:
    sizes = {2: torch.int16, 4: torch.int32, 8: torch.int64}
    return weight.contiguous().flatten().view(sizes[weight.element_size()]).tolist()


def back(weight: Tensor) -> Tensor:
    return decode(encode(weight), tuple(weight.shape), weight.dtype)


# ---- a weight ------------------------------------------------------------------------------------------------------


def test_a_small_weight_by_hand():
    """Gaps 3, 0, 9, 6 are with k = 2: quotients 0, 0, 2, 1 are 1, 1, 001, 01; remainders 3, 0, 1, 2 are 11 00 10 01."""
    weight = torch.zeros(4, 6)
    weight.view(-1)[[3, 4, 14, 21]] = torch.tensor([1.0, 2.0, 3.0, 4.0])
    packed = encode(weight)
    assert (packed.values.tolist(), packed.k) == ([1, 2, 3, 4], 2)
    assert packed.quotients.tolist() == [0b1010011] and packed.remainders.tolist() == [0b10010011]


def naive(weight: Tensor, k: int) -> tuple[list[int], list[int]]:
    """Quotients and remainders one bit after the other."""
    streams: tuple[list[int], list[int]] = [], []
    gap = 0
    for number in integers(weight):
        if number:
            streams[0].extend([0] * (gap // 2**k) + [1])
            streams[1].extend(gap // 2**bit % 2 for bit in range(k))
        gap = 0 if number else gap + 1
    return tuple([sum(2**i * b for i, b in enumerate(s[j : j + 8])) for j in range(0, len(s), 8)] for s in streams)


@pytest.mark.parametrize("density", [0.0, 0.01, 0.05, 0.2, 0.5, 0.9, 1.0])
def test_the_code_is_that_of_a_loop_over_the_weights_and_no_k_is_shorter(density):
    weight = sparse(7, 5, 3, 3, density=density)
    packed = encode(weight)
    assert (packed.quotients.tolist(), packed.remainders.tolist()) == naive(weight, packed.k)
    positions = len(packed.quotients) + len(packed.remainders)
    assert positions <= 1 + min(sum(map(len, naive(weight, k))) for k in range(10))  # it counts bits, not bytes


@pytest.mark.parametrize("density", [0.5, 0.2, 0.1, 0.05, 0.02, 0.001])
def test_positions_are_close_to_their_entropy_and_never_more_than_a_bitmask(density):
    weight = sparse(1000, 1000, density=density)
    packed, d = encode(weight), weight.count_nonzero().item() / 1e6
    size, entropy = 8 * (packed.nbytes - packed.values.nbytes), -d * math.log2(d) - (1 - d) * math.log2(1 - d)
    assert 0.99 * entropy < size / 1e6 < min(1.03 * entropy, 1.0001)


@pytest.mark.parametrize("dtype", FLOATS.values())
@pytest.mark.parametrize("shape", [(1, 1), (0, 4), (3, 5), (8, 3, 3, 3), (2, 257)])
@pytest.mark.parametrize("density", [0.0, 0.1, 1.0])
def test_every_weight_comes_back_to_the_bit(dtype, shape, density):
    weight = sparse(*shape, density=density, dtype=dtype)
    assert bits(back(weight)) == bits(weight)


def test_signed_zeros_and_what_is_no_number_come_back_to_the_bit():
    weight = torch.zeros(4, 100)
    weight[1, :6] = torch.tensor([-0.0, nan, inf, -inf, 1e-45, MARK])
    weight.view(torch.int32)[2, 7] = 0x7FC01234  # a NaN that carries a number
    assert bits(back(weight)) == bits(weight)
    assert len(encode(weight).values) == 7


def test_a_weight_in_another_order_of_memory_is_read_in_its_own():
    weight = sparse(6, 4, 3, 3, density=0.3)
    for other in (weight.to(memory_format=torch.channels_last), weight.transpose(0, 1)):
        assert torch.equal(back(other), other) and back(other).is_contiguous()


SOUND = encode(torch.tensor([[0, 0, 0, 1.0, 2, 0], [0] * 6, [0, 0, 3, 0, 0, 0], [0, 0, 0, 4, 0, 0]]))


def bytes_of(*numbers: int) -> Tensor:
    return torch.tensor(numbers, dtype=torch.uint8)


@every({
    "a value too many": ({"values": torch.ones(5)}, "gaps"),
    "a value too few": ({"values": torch.ones(3)}, "3 connections have 1 and 1 bytes|4 gaps for 3"),
    "more than there are weights": ({"values": torch.ones(25)}, "25 connections .* do not fit"),
    "a k that is longer than a position": ({"k": 63}, "remainders of 63 bits do not fit"),
    "a negative k": ({"k": -1}, "remainders of -1 bits"),
    "another k": ({"k": 3}, "have 1 and 1 bytes"),
    "a byte of remainders too many": ({"remainders": bytes_of(0, 0)}, "have 1 and 2 bytes"),
    "no quotients": ({"quotients": bytes_of()}, "0 gaps for 4"),
    "quotients without end": ({"quotients": torch.zeros(10**6, dtype=torch.uint8)}, "have 1000000 and 1 bytes"),
    "a connection too many": ({"quotients": bytes_of(0b11010011)}, "5 gaps for 4"),
    "a gap that leads outside": ({"quotients": bytes_of(0b10010011)}, "outside the shape"),
}, "changes", "message")  # fmt: skip
def test_parts_that_do_not_fit_are_refused(changes, message):
    assert torch.equal(decode(SOUND, (4, 6), torch.float32).nonzero()[:, 0], torch.tensor([0, 0, 2, 3]))
    refused(lambda: decode(SOUND._replace(**changes), (4, 6), torch.float32), message)


# ---- a ticket ------------------------------------------------------------------------------------------------------


def test_weights_are_packed_where_that_is_smaller_and_the_rest_stays_as_it_is():
    ticket = sparse_network()
    tensors, layout = pack(ticket)
    assert layout.keys() == {"conv.weight", "double.weight"}
    assert layout["conv.weight"] == {"shape": [32, 16, 3, 3], "dtype": "float32", "k": 3}
    for name in ticket.keys() - layout.keys():
        assert tensors[name].dtype == ticket[name].dtype and torch.equal(tensors[name], ticket[name])
    found = unpack(tensors, layout)
    assert found.keys() == ticket.keys()
    assert all(torch.equal(found[name], ticket[name]) and found[name].dtype == ticket[name].dtype for name in ticket)


@pytest.mark.parametrize("values", VALUES)
def test_values_are_rounded_where_they_are_longer_and_come_back_in_their_own_type(values):
    ticket, dtype = sparse_network(), VALUES[values]
    found = unpack(*pack(ticket, values))
    for name in ("conv.weight", "double.weight"):
        assert found[name].dtype == ticket[name].dtype
        assert torch.equal(found[name], ticket[name].to(dtype).to(ticket[name].dtype))
    expected = ticket["dense.weight"].to(dtype).float()
    assert torch.equal(found["dense.weight"], expected)
    for name in ("conv.bias", "norm.running_var", "norm.num_batches_tracked", "counts"):
        assert torch.equal(found[name], ticket[name])


@pytest.mark.parametrize("values", ["bf16", "fp16"])
def test_a_connection_that_rounds_to_zero_stays_one_and_keeps_its_sign(values):
    weight = torch.zeros(10, 10)
    weight[3, :5] = torch.tensor([1e-44, -1e-44, MARK, -0.0, 1.0])
    found = unpack(*pack({"weight": weight}, values))["weight"]
    assert torch.equal(found != 0, weight != 0) and torch.equal(found.signbit(), weight.signbit())
    assert found.abs()[3, 0] == torch.tensor(1, dtype=torch.int16).view(VALUES[values]).float()
    assert found[3, 2] == (MARK if values == "bf16" else 2.0**-24)


def test_a_connection_beyond_the_range_of_its_values_is_refused():
    weight = torch.zeros(10, 10)
    weight[0, :3] = torch.tensor([7e4, -inf, nan])
    refused(lambda: pack({"conv.weight": weight}, "fp16"), r"conv\.weight has .* 7e\+04, which fp16 .* use bf16")
    weight[0, 0] = 6e4
    found = unpack(*pack({"conv.weight": weight}, "fp16"))["conv.weight"]
    assert found[0, 1] == -inf and found[0, 2].isnan() and found[0, 0] == torch.tensor(6e4).half()


def test_what_is_tied_is_stored_with_each_of_its_names():
    weight = sparse(40, 40, density=0.1)
    dense = torch.randn(40, 40)
    tensors, layout = pack({"a.weight": weight, "b.weight": weight, "c.weight": dense, "d.weight": dense})
    assert tensors["c.weight"].data_ptr() != tensors["d.weight"].data_ptr()
    found = unpack(tensors, layout)
    assert torch.equal(found["a.weight"], found["b.weight"])


@every({
    "no tensor": ({"w": [1.0]}, "w of the ticket is a list"),
    "no data": ({"w": torch.empty(3, 3, device="meta")}, "w of the ticket is float32 of shape"),
    "another layout": ({"w": torch.eye(3).to_sparse()}, "w of the ticket is float32 of shape"),
    "a name for two": ({"w": sparse(40, 40, density=0.1), "w.values": torch.ones(3)}, "named like a part"),
}, "ticket", "message")  # fmt: skip
def test_tickets_that_cannot_be_packed(ticket, message):
    refused(lambda: pack(ticket), message)


BYTES = torch.zeros(3, dtype=torch.uint8)


@every({
    "longer values": ({"conv.weight.values": torch.ones(3).double()}, {}, "values .* are float64"),
    "values of another kind": ({"conv.weight.values": BYTES}, {}, "values .* are uint8"),
    "positions that are no bytes": ({"conv.weight.quotients": torch.ones(3)}, {}, "positions .* are no bytes"),
    "a part of two dimensions": ({"conv.weight.values": torch.ones(3, 3)}, {}, "does not hold values, quotients"),
    "the weight itself too": ({"conv.weight": torch.ones(3)}, {}, "does not hold values, quotients"),
    "a weight that is not there": ({}, {"fc": {"shape": [3], "dtype": "float32", "k": 0}}, "does not hold .* 'fc'"),
    "a long shape": ({}, {"conv.weight": {"shape": [1] * 65, "dtype": "float32", "k": 0}}, "says of 'conv.weight'"),
    "a size behind a zero": ({}, {"conv.weight": {"shape": [0, 2**70], "dtype": "float32", "k": 0}}, "its shape is"),
    "integers": ({}, {"conv.weight": {"shape": [3], "dtype": "int64", "k": 0}}, "its numbers are 'int64'"),
    "a k that is true": ({}, {"conv.weight": {"shape": [3], "dtype": "float32", "k": True}}, "says of 'conv.weight'"),
}, "tensors", "layout", "message")  # fmt: skip
def test_tensors_and_layouts_that_do_not_fit_are_refused(tensors, layout, message):
    stored, whole = pack(sparse_network())
    refused(lambda: unpack({**stored, **tensors}, {**whole, **layout}), message)
