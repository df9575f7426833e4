"""Saved tickets on the device of this process: their networks, what they predict, and their numbers."""

from collections.abc import Iterable

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from tqdm import tqdm

from models import build
from models.ensembles import Ensemble
from utils.data.protocol import Images
from utils.training.evaluation import BATCH


def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def alone() -> Accelerator:
    """What evaluates them: this process, in full precision."""
    return Accelerator(mixed_precision="no", cpu=device().type == "cpu")


def network(name: str, num_classes: int, width: float, kind: Ensemble | None = None) -> nn.Module:
    """A network, or an efficient ensemble of it, to load tickets into."""
    return build(name, num_classes, width, ensemble=kind).to(device()).to(memory_format=torch.channels_last)


@torch.no_grad()
def predict(model: nn.Module, images: Images) -> Tensor:
    """Log-probabilities, float64 (N, classes), of a model in evaluation mode and in full precision."""
    model.eval()
    ranges = [(start, min(start + BATCH, len(images))) for start in range(0, len(images), BATCH)]
    batches = tqdm(images.clean_batches(ranges), "predicting", len(ranges), leave=False, disable=None)
    return torch.cat([model(inputs) for inputs, _ in batches]).double().log_softmax(1)


def connections(weights: Iterable[Tensor]) -> dict[str, float]:
    """Of maskable weights: how many are not zero, how many there are, and the ratio."""
    counts = [(int(weight.count_nonzero()), weight.numel()) for weight in weights]
    nnz, maskable = (sum(column) for column in zip(*counts, strict=True))
    return {"nnz": nnz, "maskable": maskable, "density": nnz / maskable}
