"""Ticket files: a state dict and what a run says of it, as safetensors."""

import contextlib
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from sparselearning.errors import UsageError
from utils.files.whole import digest_of, write_whole


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


def ticket_name(number: int) -> str:
    """Where the ticket of a cycle, or of a refinement, stands in a run folder."""
    return f"tickets/ticket-{number}.safetensors"
