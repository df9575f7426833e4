"""Ticket files: a state dict as safetensors, plain or packed, what is said of it, and a digest of both.

A packed file is a safetensors file too. Its tensors are those of `packing.pack`, and its metadata has their layout as
JSON under `packed`. So a few lines of numpy read it:

    with safetensors.safe_open(path, "np") as file:
        ticket = {name: file.get_tensor(name) for name in file.keys()}
        layout = json.loads(file.metadata()["packed"])
    for name, about in layout.items():
        values, quotients, remainders = (ticket.pop(f"{name}.{part}") for part in ("values", "quotients", "remainders"))
        ends, n, k = np.flatnonzero(np.unpackbits(quotients, bitorder="little")), len(values), about["k"]
        bits = np.unpackbits(remainders, count=n * k, bitorder="little").reshape(n, k)
        gaps = (np.diff(ends, prepend=-1) - 1 << k) + bits @ (1 << np.arange(k))
        ticket[name] = np.zeros(about["shape"], about["dtype"])
        ticket[name].flat[np.cumsum(gaps + 1) - 1] = values
"""

import contextlib
import hashlib
import json
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Protocol

import torch
from torch import Tensor

from sparselearning.errors import UsageError
from sparselearning.hub import PREFIX, download
from sparselearning.kinds import kind_of
from sparselearning.packing import PARTS, pack, unpack
from sparselearning.superposition import Ticket

Header = dict[str, str]


class _File(Protocol):
    """A file of safetensors that is open for reading."""

    def metadata(self) -> Header | None: ...
    def keys(self) -> Iterable[str]: ...
    def get_tensor(self, name: str) -> Tensor: ...


def load_ticket(source: str | os.PathLike[str]) -> Ticket:
    """The state dict of a ticket file, plain or packed, or of any safetensors file, on the CPU.

    Nothing in the file is executed, and a packed one unpacks to at most 64 MiB and 1,000 times its size.

    Args:
        source: a path; or `hf://OWNER/NAME`, a model of the Hugging Face Hub, with `@REVISION` where not its newest.

    Raises:
        UsageError: it cannot be read or fetched, or is not what the digest in its header says.
    """
    if not isinstance(source, str | os.PathLike):
        raise UsageError(f"a ticket is read from a path or from {PREFIX}OWNER/NAME, not from {kind_of(source)}")
    return read(located(str(os.fspath(source))))[0]


def located(source: str) -> Path:
    """Where a ticket lies here, one of the Hub in its cache. Raises UsageError where it cannot be fetched."""
    return download(source) if source.startswith(PREFIX) else Path(source)


def read(path: Path) -> tuple[Ticket, Header]:
    """A ticket and what its header says of it. Raises UsageError as `load_ticket`."""
    with _opened(path) as file:
        said = file.metadata() or {}
        ticket = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, not a dict
        layout, digest = said.get("packed"), said.get("sha256")
        if layout is not None or any(name.endswith(f".{part}") for name in ticket for part in PARTS[1:]):
            if layout is None or digest is None:
                raise UsageError("it is packed, but its header has no layout or no digest")
            ticket = unpack(ticket, json.loads(layout))
    header = _about(said)
    # the digest of older tickets is of their tensors only
    if digest is not None and digest != digest_of(ticket, header) and digest != digest_of(ticket):
        raise UsageError(f"{path} is damaged: its content does not match the digest in its header")
    return ticket, header


def read_header(path: Path) -> Header:
    """What a ticket says of itself, a plain safetensors file nothing. Raises UsageError where it cannot be read."""
    with _opened(path) as file:
        return {key: value for key, value in (file.metadata() or {}).items() if key != "packed"}


def plain(ticket: Mapping[str, Tensor], header: Mapping[str, str]) -> bytes:
    """The content of a ticket file that `safetensors.torch.load_file` reads too.

    Args:
        ticket: tensors by name.
        header: what there is to say of it.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in ticket.items()}
    about = _about(header)
    return _content(tensors, about | {"sha256": digest_of(tensors, about)})


def packed(ticket: Mapping[str, Tensor], header: Mapping[str, str], values: str | None = None) -> bytes:
    """The content of a packed ticket file.

    Args:
        ticket: tensors by name.
        header: what there is to say of it.
        values: as for `packing.pack`; without it the ticket comes back equal to the bit, and keeps its digest.

    Raises:
        UsageError: as `packing.pack`; or it is sparser than `packing.unpack` accepts.
    """
    tensors, layout = pack(ticket, values)
    about = _about(header)
    digest = digest_of(unpack(tensors, layout), about)
    return _content(tensors, about | {"packed": json.dumps(layout, separators=(",", ":")), "sha256": digest})


def _about(said: Mapping[str, str]) -> Header:
    """What a header says of the ticket, without what it says of the file."""
    return {key: value for key, value in said.items() if key not in ("packed", "sha256")}


def _content(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    """A safetensors file; unlike the library's, of the same bytes for the same tensors and metadata."""
    content: bytes = _safetensors().torch.save({**tensors}, {**metadata})
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:start])
    text = json.dumps(header | {"__metadata__": dict(sorted(metadata.items()))}, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # so that the tensors are aligned
    return len(text).to_bytes(8, "little") + text + content[start:]


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[_File]:
    """The file for reading. What is wrong in it becomes a UsageError that names it."""
    library = _safetensors()
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # a pipe would be waited for
            raise OSError("it is no file")
        with library.safe_open(path, "pt") as file:
            yield file
    except FileNotFoundError:
        raise UsageError(f"there is no ticket {path}") from None
    except (library.SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise UsageError(f"{path} is not a readable ticket: {' '.join(str(error).split())}") from error


def _safetensors() -> ModuleType:
    """The library of the file format, which training does not need."""
    try:
        import safetensors.torch
    except ImportError as error:
        raise UsageError("ticket files need safetensors: pip install 'safetensors[torch]'") from error
    return safetensors


def digest_of(tensors: Mapping[str, Tensor], header: Mapping[str, str] | None = None) -> str:
    """A digest of tensors and of what a header says of them."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().flatten().view(torch.uint8).numpy().data)
    if header is not None:
        digest.update(json.dumps(header, sort_keys=True).encode())
    return digest.hexdigest()
