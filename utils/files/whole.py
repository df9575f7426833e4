"""Files that are whole or not there, and that say when they are damaged."""

import contextlib
import errno
import hashlib
import json
import os
import secrets
import stat
import sys
from pathlib import Path

from sparselearning.errors import UsageError
from utils.files.typed import Json


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


def read_json(path: Path) -> Json:
    """Raises UsageError where the file is missing or no JSON."""
    try:
        content: Json = json.loads(read_whole(path))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read: {' '.join(str(error).split())}") from error
    return content


def write_json(path: Path, content: object) -> None:
    """Write a file as `write_whole` does."""
    write_whole(path, json.dumps(content, indent=2) + "\n")
