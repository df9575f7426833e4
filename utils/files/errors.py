"""What is wrong with the files and the environment that a program is given, in one line that its user can act on."""

import contextlib
from collections.abc import Iterator

from sparselearning.errors import UsageError


class DamagedImageError(UsageError):
    """An image that cannot be read; only the process that meets it knows."""


@contextlib.contextmanager
def explained(mistake: str, remedy: str) -> Iterator[None]:
    """Turns whatever another library raises over bad input into one line: no list of their exceptions would be full.

    Raises:
        UsageError: the mistake, what the library says of it, and the remedy.
    """
    try:
        yield
    except Exception as error:
        reason = (str(error) or type(error).__name__).splitlines()[0].rstrip(". ")
        raise UsageError(f"{mistake}: {reason}; {remedy}") from error
