"""What a run costs, counted from the masks it really had."""

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import nn

from models.members import Members
from sparselearning.flops import Counting, StepKind, forward_flops, layer_costs, step_flops
from sparselearning.layers import unwrap
from sparselearning.masking import Masking
from utils.command_line.options import recorded
from utils.command_line.rows import Setting
from utils.run_folder.contents import Summary
from utils.training.plan import one_training

COUNTINGS: dict[Counting, str] = {"plain": "", "rigl": "_rigl"}  # and how names in summary.json end
_KINDS: dict[str, StepKind] = {"gradient": "dense_gradient_at_updates", "momentum": "dense_gradient_always"}


def densities_of(model: nn.Module, names: Iterable[str]) -> dict[str, float]:
    """The part of each weight that is not zero."""
    weights = {name: model.get_parameter(name) for name in names}
    return {name: int(weight.count_nonzero()) / weight.numel() for name, weight in weights.items()}


class Costs:
    """FLOPs of a model, sparse and dense, in every counting; of an efficient ensemble, relative to its network.

    Args:
        teachers: models that each pass the images of a step forward too.
        rewound: what the run cost that this one rewinds, in epochs of dense training, by counting.
        repetitions: how often an image comes in a batch.

    Attributes:
        steps: training steps so far, in those of the dense network, by counting.
    """

    def __init__(
        self,
        model: nn.Module,
        masking: Masking | None,
        input_shape: tuple[int, ...],
        teachers: Sequence[nn.Module] = (),
        rewound: Mapping[Counting, float] | None = None,
        repetitions: int = 1,
    ) -> None:
        inner = unwrap(model)
        self.masking, self.layers = masking, layer_costs(inner, input_shape)
        self.network, self.trained = self.layers, 1.0  # of the passes of an inference, those in training
        if isinstance(inner, Members):
            with torch.device("meta"):
                self.network = layer_costs(inner.make(), input_shape)
            self.trained = repetitions / inner.passes
        self.rewound = rewound or {}
        learned = [densities_of(teacher, self.layers) for teacher in teachers]
        self.per_teachers = {c: sum(self.test_ratio(densities, c) for densities in learned) / 3 for c in COUNTINGS}
        self.steps = dict.fromkeys(COUNTINGS, 0.0)
        self._counted: Mapping[str, int] | None = None
        self._per_step = {c: self.trained * self.test_ratio({}, c) for c in COUNTINGS}

    def densities(self) -> dict[str, float]:
        """The density of every masked layer at this moment, in the order of the network."""
        if self.masking is None:
            return {}
        return {name: self.masking.active[name] / weight.numel() for name, weight in self.masking.weights.items()}

    def dense(self, counting: Counting = "plain") -> float:
        """FLOPs of one image through the dense network."""
        return forward_flops(self.network, None, counting)

    def test_ratio(self, densities: dict[str, float] | None = None, counting: Counting = "plain") -> float:
        """FLOPs of inference, of those of the dense network; at this moment's densities or others."""
        densities = self.densities() if densities is None else densities
        return forward_flops(self.layers, densities, counting) / self.dense(counting)

    def add_step(self) -> None:
        """A training step was done with the masks as they are."""
        masking = self.masking
        if masking is not None and masking.active is not self._counted:  # replaced by every topology update
            self._counted = masking.active
            score = "momentum" if masking.dense_momentum else masking.growth or "none"
            kind: StepKind = _KINDS.get(score, "sparse")
            for counting in COUNTINGS:
                sparse, dense = (forward_flops(self.layers, kept, counting) for kept in (self.densities(), None))
                step = step_flops(kind, sparse, dense, masking.update_frequency)
                self._per_step[counting] = self.trained * step / (3 * self.dense(counting))
        for counting in COUNTINGS:
            self.steps[counting] += self._per_step[counting] + self.per_teachers[counting]

    def summary(
        self, epochs: int, steps_per_epoch: int, images: int, densities: dict[str, float], passes: int = 1
    ) -> dict[str, float]:
        """The entry `flops` of summary.json, each number in both countings.

        `train`: the whole training, `rewound` in it; `dense_epoch`: one epoch of the dense network; `train_ratio`: of a
        dense training of as many epochs; `test_ratio`: of the dense network, where one prediction takes `passes` of a
        network of these densities.
        """
        flops: dict[str, float] = {}
        for counting, end in COUNTINGS.items():
            epoch, rewound = 3 * images * self.dense(counting), self.rewound.get(counting, 0.0)
            train = self.steps[counting] / steps_per_epoch + rewound
            numbers = {"train": train * epoch, "rewound": rewound * epoch, "dense_epoch": epoch}
            numbers |= {"train_ratio": train / epochs, "test_ratio": passes * self.test_ratio(densities, counting)}
            flops |= {name + end: number for name, number in numbers.items()}
        return flops


def together(runs: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The FLOPs of several runs of the same options; a run that all of them rewind was trained once."""
    first, total = runs[0], {}
    for end in COUNTINGS.values():
        again = (len(runs) - 1) * first["rewound" + end]
        total["train" + end] = sum(flops["train" + end] for flops in runs) - again
        total["train_ratio" + end] = first["train_ratio" + end] * total["train" + end] / first["train" + end]
        total["test_ratio" + end] = sum(flops["test_ratio" + end] for flops in runs)
    return {**first, **total}


def trained_epochs(summary: Summary, options: Mapping[str, Setting], counting: Counting = "plain") -> float:
    """The training of a finished run, in epochs of its dense network.

    Older runs tell the plain count alone, of what was one network's training then.
    """
    flops, end = summary["flops"], COUNTINGS[counting]
    if "train" in flops:
        return flops["train" + end] / flops["dense_epoch" + end]
    return flops["train_ratio"] * one_training(recorded({**options, "epochs": summary["epochs"]}))
