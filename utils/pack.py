"""Tickets in a sixteenth of their space: packed files, for this machine and for the Hugging Face Hub.

python -m utils.pack runs/NAME/ticket.safetensors                                  ticket.packed.safetensors beside it
python -m utils.pack runs/NAME/tickets/*.safetensors --values bf16                 half the size again
python -m utils.pack runs/NAME/ticket.safetensors --card                           shows what the next would say of it
python -m utils.pack runs/NAME/ticket.safetensors --push-to-hub OWNER/NAME --license mit

sparselearning.load_ticket("FILE") and load_ticket("hf://OWNER/NAME") give back the state dict, and every command takes
packed files as it takes others.
"""

from utils.command_line.commands.pack import PackOptions
from utils.command_line.parser import parse
from utils.command_line.program import start

if __name__ == "__main__":  # a mistake is answered before the imports below, which take seconds
    start()
    OPTIONS = parse(PackOptions, __doc__)

import sys
from pathlib import Path

from sparselearning.errors import UsageError
from sparselearning.hub import FILE, PREFIX, reaching
from sparselearning.packing import FLOATS
from sparselearning.superposition import Ticket
from sparselearning.tickets import packed, read
from utils.command_line.errors import one_line_errors
from utils.files.whole import write_whole
from utils.reporting.card import card, origin


def write(output: Path, content: bytes) -> None:
    try:
        write_whole(output, content)
    except OSError as error:
        raise UsageError(f"{output} cannot be written: {error.strerror}; give another --output") from error


def warn_of_signed_zeros(file: Path, ticket: Ticket) -> None:
    """Masks that multiply leave -0.0, which is not the zero of a weight that does not exist."""
    weights = (tensor for tensor in ticket.values() if tensor.dtype in FLOATS.values() and tensor.ndim > 1)
    zeros = sum(int(((weight == 0) & weight.signbit()).sum()) for weight in weights)
    if zeros:
        print(
            f"warning: {file} has {zeros:,} weights of -0.0, which are kept as connections: add 0.0 to its weights to "
            f"make zeros of them",
            file=sys.stderr,
        )


def check_repository(options: PackOptions) -> None:
    """Raises UsageError where the repository cannot be written to, or is not to be."""
    with reaching(f"--push-to-hub {options.push_to_hub}") as hub:
        if hub.get_token() is None:
            raise UsageError("needs a token of yours that may write: `hf auth login`, or set HF_TOKEN")
        api, name = hub.HfApi(), options.push_to_hub
        if api.repo_exists(name):
            if not options.overwrite:
                raise UsageError("is there: give another name, or --overwrite to add a commit to it")
            if options.private and not api.model_info(name).private:
                raise UsageError("is public: make it private in its settings first, or leave out --private")


def push(content: bytes, text: str, options: PackOptions) -> str:
    """Upload a packed ticket and its card in one commit; returns the address of the repository."""
    with reaching(f"--push-to-hub {options.push_to_hub}") as hub:
        api, name = hub.HfApi(), options.push_to_hub
        url = api.create_repo(name, private=options.private or None, exist_ok=True)
        files = {FILE: content, "README.md": text.encode()}
        operations = [hub.CommitOperationAdd(path, data) for path, data in files.items()]
        api.create_commit(name, operations, commit_message="A packed ticket and its model card")
        return str(url)


@one_line_errors()
def main(options: PackOptions) -> None:
    if options.sends:
        check_repository(options)
    for file, output in options.outputs.items():
        ticket, header = read(file)
        if options.card or options.sends:
            name = options.push_to_hub or "OWNER/NAME"
            text = card(name, ticket, origin(file, header), options.values, options.license)
        if options.card:
            print(text, end="")
            continue
        warn_of_signed_zeros(file, ticket)
        content = packed(ticket, header, options.values)
        if output is not None:
            write(output, content)
        if options.sends:
            print(f'{push(content, text, options)}: load_ticket("{PREFIX}{options.push_to_hub}")')
        dense, size = sum(tensor.nbytes for tensor in ticket.values()) / 1e6, len(content) / 1e6
        print(f"{output or file}: {dense:.2f} MB in {size:.2f} MB, {dense / size:.1f} times smaller")


if __name__ == "__main__":
    main(OPTIONS)
