"""How well the confidence of a network tells test images from others: FreeTickets, Tables 11 and 12.

The confidence is the probability of the most likely class, as in Meinke and Hein 2019 and Augustin et al. 2020, whose
routine FreeTickets follows.
"""

import numpy as np
from torch import Tensor

from utils.command_line.commands.evaluate import NOISE, RobustnessOptions
from utils.data.protocol import Images
from utils.evaluations.columns import AnyColumns, Block
from utils.evaluations.subject import Subject

COLUMNS = AnyColumns("AUROC", "higher", 4)  # of a data set


def run(subject: Subject, options: RobustnessOptions) -> list[Block]:
    """{name of a data set: area under the ROC curve}: 1, of surely more confident test images; 0.5, of a mere guess."""

    def confidence(images: Images, title: str) -> np.ndarray:
        """(predictors, N)"""
        return subject.measure(images, 1, _log_confidence, title)[:, :, 0].cpu().numpy()

    inside, found = confidence(subject.sets.test, "test images"), {}
    for word in options.ood:
        name, _, place = word.partition("=")
        images = subject.sets.noise() if name == NOISE and not place else _images(subject, name, place)
        found[name] = [area(*pair) for pair in zip(inside, confidence(images, name), strict=True)]
    return [{name: areas[i] for name, areas in found.items()} for i in range(subject.predictors)]


def _images(subject: Subject, name: str, place: str) -> Images:
    return subject.sets.images(subject.sets.read(name, place or None))


def _log_confidence(log_probs: Tensor, labels: Tensor) -> Tensor:
    """(B, 1). Its order is that of the probabilities, but those close to 1 remain apart."""
    return log_probs.amax(1, keepdim=True)


def area(inside: np.ndarray, outside: np.ndarray) -> float:
    """Under the ROC curve of scores (N,) of test images against (M,) of others: the part of pairs that are in order."""
    from sklearn.metrics import roc_auc_score  # which takes a second that other metrics need not wait for

    known = np.repeat([1, 0], [len(inside), len(outside)])
    return float(roc_auc_score(known, np.concatenate((inside, outside))))
