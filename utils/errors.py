"""How a program ends when something is wrong that its user can mend."""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import torch

from sparselearning.errors import UsageError


class DamagedImageError(UsageError):
    """An image that cannot be read; only the process that meets it knows."""


@contextlib.contextmanager
def one_line_errors() -> Iterator[None]:
    """The user's mistakes end the program with one line on stderr and status 2, without a traceback."""
    alone = False
    try:
        yield
        return
    except UsageError as error:
        message, alone = str(error), isinstance(error, DamagedImageError)
    except torch.cuda.OutOfMemoryError:
        message = (
            "the device is out of memory: use a smaller --batch-size, and a larger --gradient-accumulation-steps to "
            "keep the size of the whole batch"
        )
    if alone or int(os.environ.get("RANK", 0)) == 0:
        print(f"{Path(sys.argv[0]).name}: {message}", file=sys.stderr)
    sys.exit(2)
