"""Runs whose tickets are superposed, on a network so small that each takes a second; and what a ticket holds."""

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from sparselearning.layers import maskable_weights
from utils.data.cifar import load_cifar
from utils.training.metrics import per_sample, summarize
from utils.training.saved import predict

VALID, TEST = 0.25, 100
SPARSE = f"--limit-train 240 --limit-test {TEST} --batch-size 20 --lr 0.1 --sparse --density 0.3"
TICKETS = f"{SPARSE} --epochs 7 --sup-tickets --cycle-epochs 1 --num-tickets 3 --save-tickets"
RUNS = {
    "cia": TICKETS,
    "caa": f"{TICKETS} --superpose caa --method set",
    "cima": f"{TICKETS} --superpose cima --cima-beta 0.6",
    "exempt": f"{TICKETS} --exempt 7.weight 0.*",
    "recompute": f"{TICKETS} --bn recompute --batch-size 128 --valid-fraction {VALID}",
    "valid": f"{TICKETS} --valid-fraction {VALID} --lr-high 0.1",
    "other": f"{SPARSE} --epochs 8 --valid-fraction {VALID} --seed 1",
}


class Small(nn.Sequential):
    def __init__(self, classes: int, width: float = 1.0) -> None:
        layers = [nn.Conv2d(3, 8, 4, stride=4, bias=False), nn.BatchNorm2d(8), nn.ReLU()]
        layers += [nn.Conv2d(8, 16, 3, stride=2), nn.BatchNorm2d(16), nn.ReLU()]
        super().__init__(*layers, nn.Flatten(), nn.Linear(144, classes))


@dataclass
class Finished:
    folder: Path

    @property
    def tickets(self) -> list[Path]:
        return sorted(self.folder.glob("tickets/ticket-*"))

    @property
    def ticket(self) -> Path:
        return self.folder / "ticket.safetensors"


@dataclass
class Superposed:
    """What the command has left: its ticket, the header of it, the content of --json, and what it printed."""

    ticket: dict[str, Tensor]
    header: dict[str, str]
    summary: dict
    lines: list[str]
    err: str


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(a[name].equal(b[name]) and a[name].dtype == b[name].dtype for name in a)


def weights(exempt: tuple[str, ...] = ()) -> list[str]:
    return list(maskable_weights(Small(10), exempt))


def nnz(ticket: dict[str, Tensor], names: list[str]) -> int:
    return sum(int(ticket[name].count_nonzero()) for name in names)


def total(ticket: dict[str, Tensor], names: list[str]) -> int:
    return sum(ticket[name].numel() for name in names)


def metrics(ticket: dict[str, Tensor], split: str) -> dict[str, float]:
    splits = load_cifar("digits", None, "cpu", limit_train=240, limit_test=TEST, valid_fraction=VALID)
    model, images = Small(10), getattr(splits, split)
    model.load_state_dict(ticket)
    return summarize(per_sample(predict(model, images), images.labels))
