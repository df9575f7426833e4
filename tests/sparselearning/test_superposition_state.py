"""A saved superposition goes on as the same, and that of another model or average is refused."""

import pytest
import torch
from torch import Tensor

from sparselearning import Superposition, UsageError
from tests.exact import bits, through_a_file
from tests.tickets import TICKETS, every_method


@every_method
@pytest.mark.parametrize("taken", [0, 1, 2])
def test_a_saved_superposition_goes_on_as_the_same(method: str, taken: int) -> None:
    whole = Superposition(["w"], 2, method)
    for new in TICKETS[:taken]:
        whole.add(new)
    resumed = Superposition(["w"], 2, method)
    resumed.load_state_dict(through_a_file(whole.state_dict()), TICKETS[0])
    for new in TICKETS[taken:]:
        whole.add(new)
        resumed.add(new)
    assert resumed.tickets == 3
    assert bits(resumed.ticket()) == bits(whole.ticket())


@pytest.mark.parametrize(
    "like",
    [
        {"w": torch.zeros(5), "b": torch.zeros(1), "n": torch.tensor(0)},
        {"w": torch.zeros(4), "b": torch.zeros(1)},
        {"w": torch.zeros(4), "b": torch.zeros(1), "n": torch.tensor(0), "more": torch.zeros(1)},
    ],
    ids=["shape", "superfluous", "missing"],
)
def test_a_superposition_of_another_model_is_refused(like: dict[str, Tensor]) -> None:
    saved = Superposition(["w"], 2)
    saved.add(TICKETS[0])
    superposition = Superposition(["w"], 2)
    with pytest.raises(UsageError, match="the saved average is"):
        superposition.load_state_dict(saved.state_dict(), like)
    assert superposition.tickets == 0


def test_a_superposition_by_another_average_is_refused() -> None:
    saved = Superposition(["w"], 2, "cia")
    for new in TICKETS[:2]:
        saved.add(new)
    with pytest.raises(UsageError):
        Superposition(["w"], 2, "caa").load_state_dict(saved.state_dict(), TICKETS[0])
