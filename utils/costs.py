"""What a run costs, counted from the masks it really had."""

from collections.abc import Iterable, Sequence

from torch import nn

from sparselearning.flops import Counting, StepKind, forward_flops, layer_costs, step_flops
from sparselearning.masking import Masking, unwrap

_KINDS: dict[str, StepKind] = {"gradient": "dense_gradient_at_updates", "momentum": "dense_gradient_always"}


def densities_of(model: nn.Module, names: Iterable[str]) -> dict[str, float]:
    """The part of each weight that is not zero."""
    weights = {name: model.get_parameter(name) for name in names}
    return {name: int(weight.count_nonzero()) / weight.numel() for name, weight in weights.items()}


class Costs:
    """FLOPs of a model, sparse and dense.

    Attributes:
        steps: training steps so far, counted in FLOPs of a dense one.
    """

    def __init__(
        self,
        model: nn.Module,
        masking: Masking | None,
        input_shape: tuple[int, ...],
        teachers: Sequence[nn.Module] = (),
    ) -> None:
        self.masking, self.layers = masking, layer_costs(unwrap(model), input_shape)
        lessons = [forward_flops(self.layers, densities_of(teacher, self.layers)) for teacher in teachers]
        self.lessons = sum(lessons) / (3 * self.dense())  # a forward pass of each teacher in every step
        self.steps = 0.0
        self._counted: dict[str, int] | None = None
        self._per_step = 1.0

    def densities(self) -> dict[str, float]:
        """The density of every masked layer at this moment, in the order of the network."""
        if self.masking is None:
            return {}
        return {name: self.masking.active[name] / weight.numel() for name, weight in self.masking.weights.items()}

    def dense(self) -> float:
        """FLOPs of one image through the dense network."""
        return forward_flops(self.layers)

    def test_ratio(self, densities: dict[str, float] | None = None, counting: Counting = "plain") -> float:
        """FLOPs of inference, of those of the dense network; at this moment's densities or others."""
        densities = self.densities() if densities is None else densities
        return forward_flops(self.layers, densities, counting) / forward_flops(self.layers, None, counting)

    def add_step(self) -> None:
        """A training step was done with the masks as they are."""
        masking = self.masking
        if masking is not None and masking.active is not self._counted:  # replaced whenever a layer's density changes
            self._counted = masking.active
            score = "momentum" if masking.dense_momentum else masking.growth or "none"
            kind: StepKind = _KINDS.get(score, "sparse")
            sparse, dense = forward_flops(self.layers, self.densities()), self.dense()
            self._per_step = step_flops(kind, sparse, dense, masking.update_frequency) / (3 * dense)
        self.steps += self._per_step + self.lessons
