"""Tickets on the Hugging Face Hub, as `python -m utils.pack --push-to-hub` leaves them there."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from sparselearning.errors import UsageError

PREFIX = "hf://"
FILE = "ticket.safetensors"  # in the repository of a model

_UNREACHED = ("ConnectError", "ConnectionError", "TimeoutException", "Timeout")  # of its HTTP libraries
_WORDS = (  # for errors of huggingface_hub, the first that fits
    ("GatedRepoError", "is gated, and not open to you yet: ask for access on its page, then `hf auth login`"),
    ("RepositoryNotFoundError", "is not there, or private: mind the spelling, or log in with `hf auth login`"),
    ("RevisionNotFoundError", "has no such revision: leave it out for the newest"),
    ("LocalEntryNotFoundError", "cannot be reached, and no copy is kept here: mind the network, proxies, HF_ENDPOINT"),
    ("OfflineModeIsEnabled", "cannot be reached in offline mode: unset HF_HUB_OFFLINE"),
    *((kind, "cannot be reached: mind the network, proxies, HF_ENDPOINT") for kind in _UNREACHED),
    ("EntryNotFoundError", f"holds no {FILE}: it was not pushed by utils.pack"),
)


def download(address: str) -> Path:
    """The ticket hf://OWNER/NAME, or hf://OWNER/NAME@REVISION, in the Hub's cache on this machine.

    Raises:
        UsageError: it is no such address, there is no such ticket, it is not for everybody, or the Hub is out of reach.
    """
    name, at, revision = address.removeprefix(PREFIX).partition("@")
    if name.count("/") != 1 or not all(name.split("/")) or (at and not revision):
        raise UsageError(f"{address} is no ticket on the Hub: write {PREFIX}OWNER/NAME or {PREFIX}OWNER/NAME@REVISION")
    with reaching(address) as hub:
        return Path(hub.hf_hub_download(name, FILE, revision=revision or None))


@contextlib.contextmanager
def reaching(what: str) -> Iterator[ModuleType]:
    """The library huggingface_hub, to work with; whatever it raises becomes a UsageError of one line about `what`."""
    try:
        import huggingface_hub
    except ImportError as error:
        raise UsageError(f"{what} needs huggingface_hub: pip install huggingface_hub") from error
    try:
        yield huggingface_hub
    except UsageError as error:
        raise UsageError(f"{what} {error}") from error
    except Exception as error:  # of its HTTP library too, which is another from version to version
        raise UsageError(f"{what} {_in_words(error)}") from error


def _in_words(error: Exception) -> str:
    kinds = {kind.__name__ for kind in type(error).__mro__}
    if known := next((words for kind, words in _WORDS if kind in kinds), None):
        return known
    if getattr(getattr(error, "response", None), "status_code", None) in (401, 403):
        return "was refused: your token is not valid, or does not allow it; `hf auth login` takes another"
    return f"was refused: {(str(error) or type(error).__name__).strip().splitlines()[0].rstrip(':. ')}"
