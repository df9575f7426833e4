"""What may happen to a masked network outside of its optimizer's steps, and is noticed there."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from sparselearning.errors import UsageError
from sparselearning.layers import bits, clear_, count_outside

_ROWS = (torch.optim.Adagrad, "sum", "initial_accumulator_value"), (torch.optim.Rprop, "step_size", "lr")


class Watch:
    """Keeps what Masking cleared until training starts, and notices weights that others have written.

    Before the first step a state may still be loaded whose masks have connections where the first masks had none: so
    the constructor's clearing can be undone until then. Afterwards it cannot, and weights that are missing are an
    error.

    Args:
        weights: the masked weights, not cleared yet.
    """

    def __init__(self, weights: Mapping[str, nn.Parameter]) -> None:
        self.weights = weights
        self._originals = {name: weight.detach().clone() for name, weight in weights.items()}
        self._expected: Mapping[str, int] = {}  # non-zero weights of a state that was loaded
        self._versions: list[int] = []

    def note(self) -> None:
        """The weights are as Masking or the optimizer left them."""
        self._versions = [weight._version for weight in self.weights.values()]

    def written(self) -> bool:
        """Were weights written since? Costs no look at the weights themselves."""
        return self._versions != [weight._version for weight in self.weights.values()]

    @torch.no_grad()
    def restore(self, masks: Mapping[str, Tensor], expected: Mapping[str, int]) -> None:
        """Before a load: undo the clearing by `masks` of weights that are as the constructor left them."""
        for name, original in self._originals.items():
            cleared = original.clone()
            clear_([cleared], [masks[name]])
            if torch.equal(bits(self.weights[name]), bits(cleared)):
                self.weights[name].copy_(original)
        self._expected = expected

    @torch.no_grad()
    def start(self) -> None:
        """Before a step: forget what was cleared. Raises UsageError where a loaded network has lost weights."""
        self._originals = {}
        names = list(self._expected)
        if not names:
            return
        counts = torch.stack([self.weights[name].count_nonzero() for name in names]).tolist()
        for name, count in zip(names, counts, strict=True):
            if count < self._expected[name]:
                raise UsageError(
                    f"{name} has {count} weights that are not zero where the saved network had {self._expected[name]}: "
                    f"load the model's state dict too, after any training and before the next step"
                )
        self._expected = {}

    def check_inside(self, masks: Mapping[str, Tensor]) -> None:
        """Raises UsageError where weights outside the masks are not zero."""
        if outside := count_outside(self.weights, masks):
            name = next(iter(outside))
            raise UsageError(
                f"{sum(outside.values())} weights outside the masks are not zero, {outside[name]} of them in {name}: "
                f"they were changed since the last step by a state dict that was loaded without the masks' state, by "
                f"another optimizer or by hand. Load masking.load_state_dict() too, or clear them with "
                f"masking.sparsify_(model)"
            )


def clear_state_(optimizer: torch.optim.Optimizer, weights: Iterable[Tensor], masks: Iterable[Tensor]) -> None:
    """Give the optimizer's state of each weight its initial value outside the mask, in place."""
    states = [
        (weight, key, state, mask)
        for weight, mask in zip(weights, masks, strict=True)
        if weight in optimizer.state
        for key, state in optimizer.state[weight].items()
        if isinstance(state, Tensor) and state.shape == weight.shape
    ]
    clear_([state for _, _, state, _ in states], [mask for *_, mask in states])
    for weight, key, state, mask in states:
        if initial := _initial_value(optimizer, weight, key):
            state.masked_fill_(~mask, initial)


def _initial_value(optimizer: torch.optim.Optimizer, weight: Tensor, key: object) -> float:
    """Zero, but for a few optimizers of torch."""
    for kind, name, option in _ROWS:
        if isinstance(optimizer, kind) and key == name:
            return next(float(g[option]) for g in optimizer.param_groups if any(p is weight for p in g["params"]))
    return 0.0
