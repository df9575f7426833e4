"""Packed tickets that are damaged or made up: each is refused in one line, at once, or gives the same network."""

import json
import random
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save
from torch import Tensor

from sparselearning import UsageError, load_ticket
from sparselearning.packing import pack, unpack
from sparselearning.tickets import packed
from tests.exact import bits
from tests.misuse import every, refused
from tests.tickets import sparse_network


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ticket.safetensors"


def parts_of(content: bytes) -> tuple[dict[str, Any], bytes]:
    """The header of a safetensors file, and its data."""
    size = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + size]), content[8 + size :]


def joined(header: Any, data: bytes) -> bytes:
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


OTHERS = (None, -1, 0, 1.5, 2**31, 2**63, 10**30, True, "", "F32", "float16", [], {}, [2**40] * 3, [1] * 70, {"k": 1})


def edited(content: bytes, rng: random.Random) -> bytes:
    """One number, word or entry of the header, or of the layout in it, is another or gone."""
    header, data = parts_of(content)
    layout = json.loads(header["__metadata__"]["packed"])
    inside = rng.random() < 0.6
    tree: Any = layout if inside else header
    while True:
        key = rng.choice([*tree] if isinstance(tree, dict) else range(len(tree)))
        if not tree[key] or not isinstance(tree[key], dict | list) or rng.random() < 0.1:
            break
        tree = tree[key]
    if rng.random() < 0.2:
        del tree[key]
    else:
        near = [tree[key] - 1, tree[key] + 1, tree[key] + 8] if isinstance(tree[key], int) else OTHERS
        tree[key] = rng.choice(rng.choice([near, OTHERS]))
    if inside:
        header["__metadata__"]["packed"] = json.dumps(layout)
    return joined(header, data)


def swapped(content: bytes, rng: random.Random) -> bytes:
    """A whole file of the same header whose tensors are a little longer, shorter, or exchanged bit by bit."""
    tensors, _ = pack(sparse_network())
    name = rng.choice([name for name in tensors if tensors[name].ndim == 1])
    tensor = tensors[name].clone()
    tensors[name] = rng.choice([tensor[1:], tensor[:-1], torch.cat((tensor, tensor[:1])), tensor.flip(0), tensor[:0]])
    if rng.random() < 0.3:
        tensors[name] = tensor.view(torch.uint8) ^ (1 << rng.randrange(8))
    return save(tensors, parts_of(content)[0]["__metadata__"])


def flipped(content: bytes, rng: random.Random) -> bytes:
    header = 8 + int.from_bytes(content[:8], "little")
    place = rng.randrange(rng.choice([header, len(content)]))
    return content[:place] + bytes([content[place] ^ (1 << rng.randrange(8))]) + content[place + 1 :]


def cut(content: bytes, rng: random.Random) -> bytes:
    place = rng.randrange(len(content))
    return rng.choice([content[:place], content + content[:place], content[:place] + content[place + 1 :]])


def overlapping(content: bytes, rng: random.Random) -> bytes:
    header, data = parts_of(content)
    one, other = rng.sample([name for name in header if name != "__metadata__"], 2)
    header[one]["data_offsets"] = header[other]["data_offsets"]
    return joined(header, data)


@pytest.mark.parametrize("change", [flipped, cut, edited, swapped, overlapping])
def test_of_many_changed_files_each_is_refused_or_the_same_network(change, path):
    rng, refusals, sound = random.Random(0), 0, packed(sparse_network(), {"data": "cifar10"})
    same = bits(sparse_network())
    for _ in range(80):
        path.write_bytes(change(sound, rng))
        try:
            assert bits(load_ticket(path)) == same
        except UsageError as error:
            assert "\n" not in str(error) and str(path) in str(error) and len(str(error)) < 600
            refusals += 1
    assert refusals > 50


def forged(weights: Mapping[str, Mapping[str, Any]], tensors: Mapping[str, Tensor]) -> bytes:
    return save({**tensors}, {"packed": json.dumps(weights), "sha256": "0" * 64})


ONE = {  # a connection, whatever the shape
    "w.values": torch.ones(1),
    "w.quotients": torch.ones(1, dtype=torch.uint8),
    "w.remainders": torch.zeros(5, dtype=torch.uint8),
}


@every({
    "2 GB": ({"w": [2**14, 2**15]},),
    "10^12 weights": ({"w": [10**6, 10**6]},),
    "more than 64 bits count": ({"w": [2**39] * 8},),
    "many weights": ({f"w{i}": [2**12, 2**12] for i in range(1000)},),
}, "shapes")  # fmt: skip
def test_a_small_file_that_asks_for_much_memory_is_refused_at_once(shapes, path):
    about = {"dtype": "float32", "k": 40}
    path.write_bytes(forged({name: {"shape": shape, **about} for name, shape in shapes.items()}, ONE))
    start = time.monotonic()
    refused(lambda: load_ticket(path), "MB of weights are out of proportion to what is stored")
    assert time.monotonic() - start < 1


def test_what_is_packed_is_never_refused_for_its_size(path):
    """A weight of one connection is out of proportion when it is large: then there is no such file."""
    small = {"w": torch.zeros(4096, 4096)}
    small["w"][7, 7] = 1
    path.write_bytes(packed(small, {}))
    assert len(path.read_bytes()) < 500 and torch.equal(load_ticket(path)["w"], small["w"])
    large = {"w": torch.zeros(4096, 4097)}
    refused(lambda: packed(large, {}), "MB of weights are out of proportion")
    tensors, layout = pack(large)
    refused(lambda: unpack(tensors, layout), "MB of weights are out of proportion")
