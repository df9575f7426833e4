"""A lock on every folder that this process writes a run into. It ends with the process, killed or not."""

import contextlib
from pathlib import Path

from filelock import FileLock, Timeout

from sparselearning.errors import UsageError

_held: dict[Path, FileLock] = {}


def hold(folder: Path) -> bool:
    """Keep other processes out of a folder from now on; True where this one did not do so already.

    Raises:
        UsageError: another one does, or the folder cannot be written into.
    """
    place = folder.resolve()
    if place in _held:
        return False
    lock = FileLock(place / ".lock")
    try:
        lock.acquire(timeout=0)
        if not (place / ".lock").exists():  # its owner ended between opening and locking
            lock.release()
            return hold(folder)
    except Timeout as error:
        raise UsageError(f"another process is at work in {folder}: wait for its end, or give another place") from error
    except OSError as error:
        raise UsageError(f"cannot write into {folder}: {error.strerror or error}; give another place") from error
    _held[place] = lock
    return True


def release() -> None:
    """Of all folders, at the end of the program; only a killed one leaves the file, which nobody holds then."""
    while _held:
        place, lock = _held.popitem()
        with contextlib.suppress(OSError):
            (place / ".lock").unlink()
        lock.release()
