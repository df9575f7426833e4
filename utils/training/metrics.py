"""The table of metrics: how good predictions are, on exactly the samples given. To add a metric, add its row.

A metric is computed in two steps, so that any number of processes agree to the last bit: each turns its share of the
logits into rows, one per image; the rows, gathered in the order of the data set, are then reduced once.
"""

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

ECE_BINS = 15


def mean(values: Tensor) -> float:
    """Of the (N,) values of all images."""
    return values.mean().item()


def percentage(values: Tensor) -> float:
    """100 times the mean."""
    return 100 * mean(values)


@dataclass(frozen=True)
class Metric:
    """A row of METRICS or of DIVERSITY.

    Attributes:
        title: of its column in the tables.
        per_image: what each image contributes, float64 (N,), or (columns, N), from log-probabilities float64 (N, C) of
            C classes, or (M, N, C) of an ensemble of M ≥ 2 models for DIVERSITY, and labels int64 (N,).
        better: which values are better, the higher or the lower ones.
        total: the metric, from what all images contribute.
        columns: the numbers that an image contributes.
        digits: printed after the decimal point.
        unit: printed after the number.
    """

    title: str
    per_image: Callable[[Tensor, Tensor], Tensor]
    better: Literal["higher", "lower"]
    total: Callable[[Tensor], float] = mean
    columns: int = 1
    digits: int = 3
    unit: str = ""

    def text(self, value: float) -> str:
        """A value as it is printed, e.g. 93.20 %."""
        return f"{value:.{self.digits}f}{self.unit}"


def correct(log_probs: Tensor, labels: Tensor) -> Tensor:
    """1 for an image whose most likely class (of equal ones the first) is its label, else 0."""
    return (log_probs.argmax(1) == labels).double()


def negative_log_likelihood(log_probs: Tensor, labels: Tensor) -> Tensor:
    """-log p(label), in nats."""
    return F.nll_loss(log_probs, labels, reduction="none")


def confidence_gap(log_probs: Tensor, labels: Tensor) -> Tensor:
    """(2, N): the confidence, which is the probability of the most likely class, and 1 if that is right, else 0."""
    return torch.stack((log_probs.amax(1).exp(), correct(log_probs, labels)))


def bins_of(confidence: Tensor) -> Tensor:
    """The bin of each confidence, int64 (N,).

    The 15 bins are (b/15, (b+1)/15] on (0, 1]: a confidence on an edge belongs to the bin below it, so that 1 is in
    the last.
    """
    return torch.bucketize(confidence, torch.arange(1, ECE_BINS, dtype=torch.float64) / ECE_BINS)


def calibration_error(gaps: Tensor) -> float:
    """ECE = Σ_b (n_b / N) |accuracy_b - confidence_b|, a fraction of 1, from `confidence_gap` of all images.

    Guo et al. 2017, On calibration of modern neural networks, Eq. 3.
    """
    return calibration_gaps(gaps).abs().sum().item() / gaps.shape[1]


def calibration_gaps(gaps: Tensor) -> Tensor:
    """n_b (accuracy_b - confidence_b) of every bin of `calibration_error`, float64 (15,); those of sets add up."""
    confidence, right = gaps
    return torch.zeros(ECE_BINS, dtype=torch.float64).index_add_(0, bins_of(confidence), right - confidence)


def squared_error(log_probs: Tensor, labels: Tensor) -> Tensor:
    """Σ_y (p(y) - 1[y is the label])², between 0 and 2. Brier 1950, Verification of forecasts, Eq. 2."""
    return (log_probs.exp() - F.one_hot(labels, log_probs.shape[1])).square().sum(1)


def disagreement(log_probs: Tensor, labels: Tensor) -> Tensor:
    """The fraction of all pairs of models that predict different classes. FreeTickets, section 5.1, d_dis."""
    pairs = [a != b for a, b in itertools.combinations(log_probs.argmax(2), 2)]
    return torch.stack(pairs).double().mean(0)


def kl_divergence(log_probs: Tensor, labels: Tensor) -> Tensor:
    """KL(P1‖P2) = Σ_y P1(y) (log P1(y) - log P2(y)) in nats, mean over all ordered pairs. FreeTickets, 5.1, d_KL."""
    pairs = itertools.permutations(log_probs, 2)
    return torch.stack([F.kl_div(b, a, reduction="none", log_target=True).sum(1) for a, b in pairs]).mean(0)


SCORE = "accuracy"  # the metric by which models are compared
METRICS: dict[str, Metric] = {
    SCORE: Metric("accuracy", correct, "higher", percentage, digits=2, unit=" %"),
    "nll": Metric("NLL", negative_log_likelihood, "lower"),
    "ece": Metric("ECE", confidence_gap, "lower", calibration_error, columns=2),
    "brier": Metric("Brier", squared_error, "lower"),
}
# of the models of an ensemble: how much they differ (Liu et al. 2022, FreeTickets); theirs are better the more they do
DIVERSITY: dict[str, Metric] = {
    "disagreement": Metric("disagreement", disagreement, "higher"),
    "kl": Metric("KL", kl_divergence, "higher"),
}


def width(metrics: Mapping[str, Metric] = METRICS) -> int:
    """The numbers that an image contributes to all of the metrics."""
    return sum(metric.columns for metric in metrics.values())


def per_sample(logits: Tensor, labels: Tensor, metrics: Mapping[str, Metric] = METRICS) -> Tensor:
    """What each image contributes to every metric, float64 (N, width), from logits (N, C) or (M, N, C).

    Log-probabilities, such as an ensemble's, are logits too. Double precision, because a confident float32 softmax
    rounds to 1 and its loss to 0.
    """
    log_probs = F.log_softmax(logits.double(), dim=-1)
    parts = [metric.per_image(log_probs, labels).reshape(metric.columns, -1) for metric in metrics.values()]
    return torch.cat(parts).T


def summarize(rows: Tensor, metrics: Mapping[str, Metric] = METRICS) -> dict[str, float]:
    """Every metric by its name, from the (N, width) rows of `per_sample`. Raises ValueError without samples."""
    if not len(rows):
        raise ValueError("no samples to summarize")
    return {name: metrics[name].total(part.squeeze(0)) for name, part in by_metric(rows, metrics).items()}


def by_metric(rows: Tensor, metrics: Mapping[str, Metric] = METRICS) -> dict[str, Tensor]:
    """{metric: its (columns, N)} of the (N, width) rows of `per_sample`; on the CPU, where sums have a fixed order."""
    columns = rows.detach().cpu().double().T.contiguous()
    return dict(zip(metrics, columns.split([metric.columns for metric in metrics.values()]), strict=True))
