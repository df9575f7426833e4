"""What a refusal of the library is, and tables of mistakes."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from sparselearning import UsageError

inf, nan = math.inf, math.nan


def refused(call: Callable[[], Any], match: str) -> None:
    """The call ends in one line that names the mistake, and no other exception."""
    with pytest.raises(UsageError, match=match) as error:
        call()
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 400


def every(cases: Mapping[str, tuple[Any, ...]], *names: str) -> pytest.MarkDecorator:
    """A test for each row of a table {what is wrong: (…)}."""
    return pytest.mark.parametrize(names, [pytest.param(*row, id=name) for name, row in cases.items()])
