"""Small networks and images to evaluate, and what they come to by hand."""

from collections.abc import Sequence

import numpy as np
import torch
from accelerate import Accelerator
from sklearn.metrics import accuracy_score, log_loss
from torch import Tensor, nn

from tests.tiny import Tiny, load_images
from utils.command_line.commands.evaluate import EvaluateOptions
from utils.command_line.parser import parse
from utils.data.other_sets import OtherSets
from utils.data.small_images import SmallImages
from utils.evaluations.subject import Subject

CLASSES = [f"class{i}" for i in range(10)]


def network(seed: int) -> nn.Module:
    """With batch-norm statistics of some use, and predictions that differ from one image to another."""
    torch.manual_seed(seed)
    model = Tiny(10, dropout=0)
    model[0].weight.data.mul_(3)
    model[-1].weight.data.mul_(9)
    model(torch.randn(8, 3, 32, 32))
    return model.eval()


def small_images(n: int = 37) -> SmallImages:
    return load_images("", None, "cpu", limit_test=n).test


def subject(*seeds: int, n: int = 37, limit: int | None = None, workers: int = 0) -> Subject:
    sets = OtherSets(small_images(n), CLASSES, workers, limit)
    return Subject(Accelerator(cpu=True), [network(seed) for seed in seeds], sets)


def options(*words: object) -> EvaluateOptions:
    return parse(EvaluateOptions, "", ["--tickets", "A", "B", *map(str, words)])


@torch.no_grad()
def probabilities(models: Sequence[nn.Module], pixels: np.ndarray) -> list[np.ndarray]:
    """Of images of bytes (N, 32, 32, 3), float64 (N, 10), by each model and, of several, by their mean."""
    inputs = (torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255 - 0.45) / 0.25
    each = [softmax(model(inputs).double().numpy()) for model in models]
    return [*each, np.mean(each, 0)] if len(each) > 1 else each


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def by_hand(outputs: np.ndarray, labels: Sequence[int]) -> dict[str, float]:
    """Accuracy and NLL by scikit-learn, ECE by its definition."""
    predicted, confidence = outputs.argmax(1), outputs.max(1)
    ece = 0.0
    for b in range(15):
        inside = [i for i in range(len(labels)) if b / 15 < confidence[i] <= (b + 1) / 15]
        ece += abs(sum(float(predicted[i] == labels[i]) - confidence[i] for i in inside)) / len(labels)
    nll = log_loss(labels, outputs, labels=range(outputs.shape[1]))
    return {"accuracy": 100 * accuracy_score(labels, predicted), "nll": nll, "ece": ece}


def pixels_of(images: SmallImages) -> np.ndarray:
    return images.images[:, 4:-4, 4:-4].numpy()


def normalized(pixels: np.ndarray) -> Tensor:
    return (torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255 - 0.45) / 0.25
