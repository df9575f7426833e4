"""Three tickets of four weights, by hand, and the averages that superpose them."""

import pytest
import torch
from torch import Tensor

from sparselearning.averages import AVERAGES

every_method = pytest.mark.parametrize("method", AVERAGES)


def ticket(weights: list[float], bias: float, counter: int) -> dict[str, Tensor]:
    return {"w": torch.tensor(weights).float(), "b": torch.tensor([bias]).float(), "n": torch.tensor(counter)}


# connection 0 is in all three tickets, the others in one each
TICKETS = [ticket([3, 2, 0, 0], 1, 10), ticket([3, 0, -9, 0], 4, 20), ticket([6, 0, 0, 5], 10, 30)]
