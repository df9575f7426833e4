"""Accuracy, negative log-likelihood and calibration, on exactly the samples given.

A metric is computed in two steps, so that any number of processes agree to the last bit: each turns its share of the
logits into rows, one per sample; the rows, gathered in the order of the data set, are then reduced once.
"""

from __future__ import annotations

import itertools
import math
from statistics import fmean

import torch
import torch.nn.functional as F
from torch import Tensor

ECE_BINS = 15


def per_sample(logits: Tensor, labels: Tensor) -> Tensor:
    """Rows (nll in nats, confidence, 1 if correct else 0), float64 (N, 3), from logits (N, C) and labels int64 (N,).

    Log-probabilities, such as an ensemble's, are logits too. Double precision, because a confident float32 softmax
    rounds to 1 and its loss to 0.
    """
    log_probs = F.log_softmax(logits.double(), dim=1)
    best, predicted = log_probs.max(dim=1)
    nll = F.nll_loss(log_probs, labels, reduction="none")
    return torch.stack((nll, best.exp(), (predicted == labels).double()), dim=1)


def summarise(rows: Tensor) -> dict[str, float]:
    """Accuracy in percent, mean nll in nats and ECE as a fraction of 1, from the (N, 3) rows of `per_sample`.

    ECE = Σ_b (n_b / N) |accuracy_b - confidence_b| over 15 equal bins (b/15, (b+1)/15] on (0, 1]: a confidence on an
    edge belongs to the bin below it, so that 1 is in the last. Raises ValueError without samples.
    """
    if not len(rows):
        raise ValueError("no samples to summarise")
    # On the CPU, where sums run in a fixed order.
    nll, confidence, correct = rows.detach().cpu().double().T.contiguous()
    inner_edges = torch.arange(1, ECE_BINS, dtype=torch.float64) / ECE_BINS
    bins = torch.bucketize(confidence, inner_edges)
    gaps = torch.zeros(ECE_BINS, dtype=torch.float64).index_add_(0, bins, correct - confidence)
    return {
        "accuracy": 100 * correct.mean().item(),
        "nll": nll.mean().item(),
        "ece": gaps.abs().sum().item() / len(rows),
    }


def ensemble(log_probs: Tensor) -> Tensor:
    """The mean of the probabilities of M models (FreeTickets, section 3.2): log-probabilities (M, N, C) to (N, C)."""
    return log_probs.logsumexp(0) - math.log(len(log_probs))


def disagreement(log_probs: Tensor) -> float:
    """The fraction of images on which two models predict different classes, mean over all pairs of M ≥ 2 models.

    From their log-probabilities (M, N, C). d_dis of FreeTickets (Liu et al. 2022), section 5.1.
    """
    pairs = itertools.combinations(log_probs.argmax(2), 2)
    return fmean((first != second).double().mean().item() for first, second in pairs)


def kl_divergence(log_probs: Tensor) -> float:
    """KL(P1‖P2) = Σ_y P1(y) (log P1(y) - log P2(y)) in nats, mean over the images and all ordered pairs of models.

    From the log-probabilities (M, N, C) of M ≥ 2 models. d_KL of FreeTickets (Liu et al. 2022), section 5.1.
    """
    pairs = itertools.permutations(log_probs.double(), 2)
    return fmean(F.kl_div(second, first, reduction="batchmean", log_target=True).item() for first, second in pairs)
