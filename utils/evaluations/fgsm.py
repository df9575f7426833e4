"""Accuracy under attack by the fast gradient sign method: FreeTickets, Table 13.

Goodfellow et al. 2015, Explaining and harnessing adversarial examples. As in Strauss et al. 2017, an attack is made for
each network of an ensemble, and each meets the whole ensemble.
"""

import math
from collections.abc import Sequence
from statistics import fmean

import torch
from torch import Tensor, nn

from utils.command_line.commands.evaluate import RobustnessOptions
from utils.data.protocol import Images
from utils.evaluations.columns import Block, Column, FixedColumns
from utils.evaluations.subject import Subject
from utils.training.evaluation import by_image
from utils.training.metrics import METRICS, correct

PART = 100  # images of a backward pass
COLUMNS = FixedColumns({name: Column(f"FGSM {name}", "higher", 2, " %") for name in ("min", "mean", "max")})


def run(subject: Subject, options: RobustnessOptions) -> list[Block]:
    """Accuracies in percent: of each network under its own attack; of the ensemble under those of all its networks.

    `members` of the ensemble: of the networks alone, each under its own attack; the paper's rows of M = 1.
    """
    epsilon, images, count = options.fgsm, subject.sets.test, len(subject.models)
    assert epsilon is not None

    def right(inputs: Tensor, labels: Tensor) -> Tensor:
        """For each attack: is its own network right (B, count), and the last predictor (B, count)?"""
        own, last = [], []
        for i, model in enumerate(subject.models):
            predicted = subject.predict(attack(model, inputs, labels, epsilon, images))
            own.append(correct(predicted[i], labels))
            last.append(correct(predicted[-1], labels))
        return torch.stack(own + last, dim=1)

    rows = by_image(subject.accelerator, images, 2 * count, right, "FGSM").cpu().T.contiguous()
    accuracies = [METRICS["accuracy"].total(column) for column in rows]
    own, last = accuracies[:count], accuracies[count:]
    blocks: list[Block] = [{**_range([accuracy]), "epsilon": epsilon} for accuracy in own]
    if count > 1:
        blocks.append({**_range(last), "epsilon": epsilon, "attacks": last, "members": _range(own)})
    return blocks


def attack(model: nn.Module, inputs: Tensor, labels: Tensor, epsilon: float, images: Images) -> Tensor:
    """x + ε sign(∂loss/∂x), clipped to [0, 1], where x is the image before it is normalized.

    Args:
        inputs: normalized images (B, 3, side, side) of `images`.
        labels: (B,), whose cross-entropy grows.
        epsilon: in units of 0..1.
    """
    parts = [_gradient(model, *part) for part in zip(inputs.split(PART), labels.split(PART), strict=True)]
    low, high = -images.mean / images.std, (1 - images.mean) / images.std
    stepped = inputs + epsilon / images.std * torch.cat(parts).sign()
    return stepped.clamp(min=low, max=high)


def _gradient(model: nn.Module, inputs: Tensor, labels: Tensor) -> Tensor:
    """That of the cross-entropy -log p(y), divided by 1 - p(y) > 0, which would round to 0 in a confident network.

    It is the gradient of log Σ_{k≠y} exp(z_k) - z_y, where z are the logits.
    """
    with torch.enable_grad():
        inputs = inputs.detach().requires_grad_()
        logits, own = model(inputs).double(), labels[:, None]
        others = logits.scatter(1, own, -math.inf).logsumexp(1)
        return torch.autograd.grad((others - logits.gather(1, own)[:, 0]).sum(), inputs)[0]


def _range(values: Sequence[float]) -> dict[str, float]:
    return {"min": min(values), "mean": fmean(values), "max": max(values)}
