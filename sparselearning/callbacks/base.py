"""What the callbacks have in common: whose masks a training begins with."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from sparselearning.layers import unwrap
from sparselearning.masking import Masking


class SparseTraining:
    """Makes a Masking when a trainer has its model and optimizer.

    Args:
        options: those of `Masking`; `total_steps` is the trainer's unless given.

    Attributes:
        masking: from the start of training on.
    """

    def __init__(self, method: str = "rigl", density: float | Mapping[str, float] = 0.05, **options: Any) -> None:
        self.options = {"method": method, "density": density, **options}
        self.masking: Masking | None = None

    def begin(self, model: nn.Module, optimizer: Any, steps: int | None, saved: Mapping[str, Any] | None) -> None:
        """Training begins, for `steps` optimizer steps: with saved masks, those of the training before, or new ones.

        Raises:
            UsageError: the options do not fit the model, or the saved masks the options.
        """
        before = self.masking
        if before is not None:
            before.remove()
            if saved is None and before.model is unwrap(model):
                before.begin_phase(before.step, None if steps is None else before.step + steps)
                saved = before.state_dict()
        self.masking = Masking(model, optimizer, **{"total_steps": steps} | self.options)
        if saved is not None:
            self.masking.load_state_dict(saved)
