"""Files that are whole or not there, and that say when they are damaged."""

import contextlib
import errno
import hashlib
import json
import os
import secrets
import stat
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from sparselearning.errors import UsageError


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file so that a reader, or a crash, sees the old one or the new one and nothing between.

    A pipe, a device or an open file, such as /dev/stdout, is written into: its place is not ours to take.
    """
    content = content.encode() if isinstance(content, str) else content
    if _is_stream(path):
        sys.stdout.flush()  # what was printed before comes first
        with open(path, "ab") as file:
            file.write(content)
        return
    # a name that nobody can have put a link to another file under
    partial = path.with_name(f"{path.name}.{secrets.token_hex(8)}.partial")
    try:
        with open(partial, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        error.filename = str(path)  # which a full disk does not say
        raise
    finally:
        partial.unlink(missing_ok=True)


def _is_stream(path: Path) -> bool:
    with contextlib.suppress(FileNotFoundError):
        mode = path.stat().st_mode
        # /dev/stdout may lead to a file that the shell has opened
        opened = path.is_symlink() and os.path.realpath(path.parent).split(os.sep)[1] in ("dev", "proc")
        return opened or not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))
    return False


def read_whole(path: str | Path) -> bytes:
    """The content of a file. Raises OSError for a pipe or a device too, which could keep a reader waiting for ever."""
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | getattr(os, "O_NONBLOCK", 0))) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "it is a pipe or a device, no file", str(path))
        return file.read()


def file_digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def save_ticket(path: Path, ticket: Mapping[str, Tensor], about: Mapping[str, object]) -> None:
    """Write a ticket as safetensors, with what it is about (None left out) and a digest of it all in the header.

    `safetensors.torch.load_file` gives back a state dict for the model.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in ticket.items()}
    words = {key: value if isinstance(value, tuple | list) else [value] for key, value in about.items()}
    header = {key: " ".join(map(str, value)) for key, value in words.items() if value != [None]}
    write_whole(path, save(tensors, {**header, "sha256": digest_of(tensors, header)}))


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # a pipe would be waited for
            raise OSError("it is no file")
        with safe_open(path, "pt") as file:
            yield file
    except FileNotFoundError:
        raise UsageError(f"there is no ticket {path}") from None
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise UsageError(f"{path} is not a readable ticket: {' '.join(str(error).split())}") from error


def read_header(path: Path) -> dict[str, str]:
    """What a ticket says of itself, a plain safetensors file nothing. Raises UsageError where it cannot be read."""
    with _opened(path) as file:
        return file.metadata() or {}


def read_ticket(path: Path) -> dict[str, Tensor]:
    """The tensors of a ticket, or of any safetensors file, on the CPU; nothing in the file is executed.

    Raises:
        UsageError: it cannot be read, does not match the digest in its header, or holds NaN or infinite values.
    """
    with _opened(path) as file:
        header = dict(file.metadata() or {})
        ticket = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, not a dict
    digest = header.pop("sha256", None)
    # the digest of older tickets is of their tensors only
    if digest is not None and digest != digest_of(ticket, header) and digest != digest_of(ticket):
        raise UsageError(f"{path} is damaged: its content does not match the digest in its header")
    for name, tensor in ticket.items():
        if not tensor.isfinite().all():
            raise UsageError(f"{path} holds NaN or infinite values in {name}: its run diverged, take another ticket")
    return ticket


def load_ticket(path: Path, like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Read a ticket for a model whose state dict is `like`.

    Raises:
        UsageError: as `read_ticket`; it has no digest, or belongs to another model.
    """
    if "sha256" not in read_header(path):
        raise UsageError(f"{path} has no digest in its header to check it by: save it with utils.files.save_ticket")
    ticket = read_ticket(path)
    check_same_model(path, ticket, like)
    return ticket


def check_same_model(path: Path, ticket: Mapping[str, Tensor], like: Mapping[str, Tensor]) -> None:
    """Raises UsageError where a ticket has other tensors than `like`."""
    for name in sorted({*like, *ticket}):
        own, loaded = like.get(name), ticket.get(name)
        if own is None or loaded is None or (own.shape, own.dtype) != (loaded.shape, loaded.dtype):
            raise UsageError(
                f"{path} belongs to another model: {name} is missing or of another shape or type in one of them"
            )


def digest_of(tensors: Mapping[str, Tensor], header: Mapping[str, str] | None = None) -> str:
    """A digest of tensors and of what a header says of them."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().flatten().view(torch.uint8).numpy().data)
    if header is not None:
        digest.update(json.dumps(header, sort_keys=True).encode())
    return digest.hexdigest()


def ticket_name(number: int) -> str:
    """Where the ticket of a cycle, or of a refinement, stands in a run folder."""
    return f"tickets/ticket-{number}.safetensors"


def read_json(path: Path) -> Any:
    """Raises UsageError where the file is missing or no JSON."""
    try:
        return json.loads(read_whole(path))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read: {' '.join(str(error).split())}") from error
