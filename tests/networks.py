"""Small networks of the library's tests, with their batches and optimizers, and one of them in sparse training."""

import copy
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

from models import build
from sparselearning import Masking

NUM_WEIGHTS, NNZ = 648, 130  # maskable weights of `network`, and its connections at the density of 0.2


def network(seed: int = 0) -> nn.Sequential:
    """For images of 4 channels and 5 x 5 pixels; maskable are 0.weight (6, 2, 3, 3) and 4.weight (10, 54)."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(4, 6, 3, groups=2, bias=False), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(54, 10)
    )


def batch(seed: int = 0) -> tuple[Tensor, Tensor]:
    """Images and labels for `network`."""
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(8, 4, 5, 5, generator=rng), torch.randint(10, (8,), generator=rng)


def sgd(model: nn.Module, **options: Any) -> torch.optim.SGD:
    return torch.optim.SGD(model.parameters(), **({"lr": 0.1, "momentum": 0.9, "weight_decay": 5e-4} | options))


def backward(model: nn.Module, seed: int = 0) -> Tensor:
    """The gradients of one batch; returns the loss."""
    x, y = batch(seed)
    loss = F.cross_entropy(model(x.to(next(model.parameters()).dtype)), y)
    loss.backward()
    return loss.detach()


def train(model: nn.Module, optimizer: torch.optim.Optimizer, seeds: Iterable[int]) -> None:
    """One step with the batch of each seed."""
    for seed in seeds:
        backward(model, seed)
        optimizer.step()
        optimizer.zero_grad()


class Parts(NamedTuple):
    """What a training loop holds."""

    model: nn.Sequential
    optimizer: torch.optim.Optimizer
    masking: Masking


def training(method: str = "rigl", *, steps: int = 3, **options: Any) -> Parts:
    """A network of density 0.2 whose connections move every second step, `steps` after the start."""
    model = network()
    optimizer = sgd(model)
    masking = Masking(model, optimizer, method, **({"density": 0.2, "update_frequency": 2} | options))
    train(model, optimizer, range(steps))
    return Parts(model, optimizer, masking)


# ---- networks without a forward pass, for tests that write weights and gradients themselves --------------------------


def layers(*shapes: tuple[int, int], seed: int = 0) -> nn.ModuleList:
    """Linear weights of (inputs, outputs)."""
    torch.manual_seed(seed)
    return nn.ModuleList(nn.Linear(*shape, bias=False) for shape in shapes)


def row(weights: Sequence[float], gradients: Sequence[float]) -> nn.Linear:
    """One layer whose numbers a reader can follow."""
    layer = nn.Linear(len(weights), 1, bias=False)
    layer.weight.data = torch.tensor([weights])
    layer.weight.grad = torch.tensor([gradients])
    return layer


def set_masks(masking: Masking, *masks: Sequence[Any]) -> None:
    """Make these the masks, the other state as it is."""
    state = copy.deepcopy(masking.state_dict())
    for name, mask in zip(state["masks"], masks, strict=True):
        state["masks"][name] = torch.tensor(mask, dtype=torch.bool).view(state["masks"][name].shape)
    masking.load_state_dict(state)


def random_step(masking: Masking, number: int, but: tuple[str, ...] = ()) -> dict[str, Tensor]:
    """One step with gradients of normal numbers, of all layers but these; returns the gradients."""
    rng = torch.Generator().manual_seed(number)
    gradients = {name: torch.randn(weight.shape, generator=rng) for name, weight in masking.weights.items()}
    for name, weight in masking.weights.items():
        weight.grad = None if name in but else gradients[name].clone()
    masking.optimizer.step()
    return gradients


class Tied(nn.Module):
    """Two layers that share one weight of 36 numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(6, 6), nn.Linear(6, 6)
        self.second.weight = self.first.weight


def random_layers(seed: int = 0) -> nn.ModuleList:
    """Four weights of 63, 20, 6 and 64 normal numbers."""
    model = layers((9, 7), (5, 4), (3, 2), (8, 8), seed=seed)
    for weight in model.parameters():
        nn.init.normal_(weight)
    return model


def give_gradients(model: nn.Module, rng: torch.Generator, scales: tuple[float, ...] = (1, 1, 1, 1)) -> None:
    for weight, scale in zip(model.parameters(), scales, strict=True):
        weight.grad = scale * torch.randn(weight.shape, generator=rng)


def on_meta(name: str, classes: int = 1000) -> nn.Module:
    """Without data, for counting: of `models/`, or with 1,000 classes of torchvision."""
    with torch.device("meta"):
        return build(name, classes) if classes < 1000 else torchvision.models.get_model(name)
