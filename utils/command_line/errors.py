"""How a program ends when something is wrong that its user can mend."""

import contextlib
import errno
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import torch

from sparselearning.errors import UsageError
from utils.files.errors import DamagedImageError
from utils.files.locks import release

UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM)
LAUNCHED = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_PORT")  # whole numbers, by the launcher


def check_environment() -> None:
    """Raises UsageError where what a launcher tells its processes is no number."""
    for name in LAUNCHED:
        value = os.environ.get(name, "0")
        if not value.removeprefix("-").isdecimal():
            raise UsageError(f"the environment says {name}={value}, which is no whole number: unset {name}")


OUT_OF_MEMORY = (
    "the device is out of memory: use a smaller --batch-size, and a larger --gradient-accumulation-steps to keep the "
    "size of the whole batch"
)


@contextlib.contextmanager
def one_line_errors() -> Iterator[None]:
    """The user's mistakes end the program with one line on stderr and status 2, without a traceback."""
    alone = False
    try:
        check_environment()
        yield
        return
    except UsageError as error:
        message, alone = str(error), isinstance(error, DamagedImageError)
    except (torch.cuda.OutOfMemoryError, MemoryError):
        message = OUT_OF_MEMORY
    except RuntimeError as error:
        if not (message := _in_words(error)):
            raise
    except OSError as error:
        if error.errno not in UNWRITABLE:
            raise
        message = (
            f"cannot write {error.filename or 'a file of the run'}: {error.strerror}; what was saved before is "
            f"untouched: make room and go on with --resume auto"
        )
    finally:
        release()
    rank = os.environ.get("RANK", "0")
    if alone or not rank.isdecimal() or int(rank) == 0:
        print(f"{Path(sys.argv[0]).name}: {message}", file=sys.stderr)
    sys.exit(2)


def _in_words(error: RuntimeError) -> str:
    """What torch's errors mean that its users can mend; nothing for the others."""
    if "can't allocate memory" in str(error):  # on a CPU
        return OUT_OF_MEMORY
    operation, lacking, _ = str(error).partition(" does not have a deterministic implementation")
    if lacking:
        return f"{operation} gives other bits in every run: use another model, or leave --deterministic out"
    return ""
