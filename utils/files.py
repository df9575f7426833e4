"""Files that are whole or not there, and that say when they are damaged."""

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from sparselearning.errors import UsageError


def write_whole(path: Path, text: str) -> None:
    """Write a text file so that a reader, or a crash, sees the old one or the new one and nothing between."""
    partial = path.with_name(path.name + ".partial")
    with open(partial, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def file_digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def save_ticket(path: Path, ticket: Mapping[str, Tensor], about: Mapping[str, object]) -> None:
    """Write a ticket as safetensors, with a digest of its tensors and what it is about in the header (None left out).

    `safetensors.torch.load_file` gives back a state dict for the model.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in ticket.items()}
    partial = path.with_name(path.name + ".partial")
    header = {key: str(value) for key, value in about.items() if value is not None}
    try:
        save_file(tensors, partial, metadata={**header, "sha256": _tensor_digest(tensors)})
    except SafetensorError as error:  # an error of the file system, in words only
        raise UsageError(f"cannot write {path}: {' '.join(str(error).split())}; make room first") from error
    partial.replace(path)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
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
        UsageError: it cannot be read, or its tensors do not match the digest in its header.
    """
    with _opened(path) as file:
        digest = (file.metadata() or {}).get("sha256")
        ticket = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, not a dict
    if digest not in (None, _tensor_digest(ticket)):
        raise UsageError(f"{path} is damaged: its tensors do not match the digest in its header")
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


def _tensor_digest(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def ticket_name(number: int) -> str:
    """Where the ticket of a cycle, or of a refinement, stands in a run folder."""
    return f"tickets/ticket-{number}.safetensors"


def read_json(path: Path) -> Any:
    """Raises UsageError where the file is missing or no JSON."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read: {' '.join(str(error).split())}") from error
