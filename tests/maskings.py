"""The masking of a run from its options, as the entry scripts build it."""


import torch
from torch import nn

from sparselearning import Masking
from utils.command_line.options import Options
from utils.training.build import masking_arguments
from utils.training.plan import make_plan


def masking_of(
    options: Options, model: nn.Module, steps_per_epoch: int, optimizer: torch.optim.Optimizer | None = None
) -> Masking:
    """The masking of a run of `model`, with batches of 128 images; of an optimizer that changes no weight."""
    phases = make_plan(options, steps_per_epoch, 128)
    optimizer = optimizer or torch.optim.SGD(model.parameters(), lr=0.0)
    return Masking(model, optimizer, **masking_arguments(options, model, phases, steps_per_epoch), snip_batches=[])
