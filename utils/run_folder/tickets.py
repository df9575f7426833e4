"""Ticket files: a state dict and a header about its run, as safetensors."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from sparselearning.errors import UsageError
from sparselearning.tickets import plain, read, read_header
from utils.files.whole import write_whole


def save_ticket(path: Path, ticket: Mapping[str, Tensor], about: Mapping[str, object]) -> None:
    """Write a ticket as safetensors, with what it is about (None left out) and a digest of it all in the header.

    `safetensors.torch.load_file` gives back a state dict for the model.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    words = {key: value if isinstance(value, tuple | list) else [value] for key, value in about.items()}
    header = {key: " ".join(map(str, value)) for key, value in words.items() if value != [None]}
    write_whole(path, plain(ticket, header))


def read_ticket(path: Path) -> dict[str, Tensor]:
    """The tensors of a ticket, plain or packed, or of any safetensors file, on the CPU.

    Raises:
        UsageError: it cannot be read, does not match the digest in its header, or holds NaN or infinite values.
    """
    ticket, _ = read(path)
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
        raise UsageError(
            f"{path} has no digest in its header to check it by: save it with utils.run_folder.tickets.save_ticket"
        )
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


def trajectory_name(epoch: int) -> str:
    """Where the network after so many epochs stands, of a run with --save-every."""
    return f"trajectory/epoch-{epoch:04d}.safetensors"
