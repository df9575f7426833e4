"""What is read from a file fits its TypedDict, or the misfit is named."""

from typing import Any, NotRequired, TypedDict

import pytest

from utils.files.typed import mismatch


class Inner(TypedDict):
    values: dict[str, float]


class Outer(TypedDict):
    name: str
    count: int
    on: NotRequired[bool]
    parts: NotRequired[list[Inner]]
    either: NotRequired[str | float | None]


GOOD: dict[str, Any] = {"name": "a", "count": 1, "on": True, "parts": [{"values": {"x": 1, "y": 0.5}}], "more": None}


@pytest.mark.parametrize(
    "value", [GOOD, {"name": "a", "count": 0}, {**GOOD, "parts": []}, {**GOOD, "either": 1}, {**GOOD, "either": None}]
)
def test_what_fits(value):
    assert mismatch(value, Outer, "it") is None


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ([], "it is []"),
        (None, "it is None"),
        ({"count": 1}, "'name' is missing"),
        ({**GOOD, "name": 3}, "name is 3"),
        ({**GOOD, "count": 1.5}, "count is 1.5"),
        ({**GOOD, "count": True}, "count is True"),
        ({**GOOD, "on": 1}, "on is 1"),
        ({**GOOD, "parts": {}}, "parts is {}"),
        ({**GOOD, "parts": [{}]}, "'values' is missing"),
        ({**GOOD, "parts": [{"values": {"x": "1"}}]}, "x is '1'"),
        ({**GOOD, "parts": [{"values": [1]}]}, "values is [1]"),
        ({**GOOD, "either": True}, "either is True"),
        ({**GOOD, "either": [1]}, "either is [1]"),
    ],
)
def test_what_does_not_fit_is_named(value, problem):
    assert mismatch(value, Outer, "it") == problem


def test_the_keys_of_a_dictionary_are_of_a_kind_too():
    assert mismatch({"x": 1, 2: 3}, dict[str, int], "it") == "a key is 2"
