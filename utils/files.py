"""Files that are whole or not there, and that say when they are damaged."""

import hashlib
import json
import os
from collections.abc import Mapping
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
    """Write a ticket as safetensors, with a digest of its tensors and what it is about in the header.

    `safetensors.torch.load_file` gives back a state dict for the model.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in ticket.items()}
    partial = path.with_name(path.name + ".partial")
    header = {key: str(value) for key, value in about.items()}
    try:
        save_file(tensors, partial, metadata={**header, "sha256": _tensor_digest(tensors)})
    except SafetensorError as error:  # an error of the file system, in words only
        raise UsageError(f"cannot write {path}: {' '.join(str(error).split())}; make room first") from error
    partial.replace(path)


def load_ticket(path: Path, like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Read a ticket for a model whose state dict is `like`; nothing in the file is executed.

    Raises:
        UsageError: it cannot be read, is damaged, or belongs to another model.
    """
    try:
        with safe_open(path, "pt") as file:
            header = file.metadata() or {}
            ticket = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, not a dict
    except FileNotFoundError:
        raise UsageError(f"there is no ticket {path}") from None
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise UsageError(f"{path} is not a readable ticket: {' '.join(str(error).split())}") from error
    if header.get("sha256") != _tensor_digest(ticket):
        raise UsageError(f"{path} is damaged: its tensors do not match the digest in its header")
    for name in sorted({*like, *ticket}):
        own, loaded = like.get(name), ticket.get(name)
        if own is None or loaded is None or (own.shape, own.dtype) != (loaded.shape, loaded.dtype):
            raise UsageError(
                f"{path} belongs to another model: {name} is missing or of another shape or type in one of them"
            )
    return ticket


def _tensor_digest(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def read_json(path: Path) -> Any:
    """Raises UsageError where the file is missing or no JSON."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read: {' '.join(str(error).split())}") from error
