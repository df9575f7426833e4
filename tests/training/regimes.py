"""Runs of every regime on a tiny network, each trained once, and what they leave behind."""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tests.tiny import NETWORKS, SPARSE, load_images, main

EPOCH, MASKABLE, NNZ = 3, 1528, round(0.2 * 1528)  # steps of an epoch; weights of the network
MACS = {"0.weight": 27 * 8 * 8 * 8, "4.weight": 72 * 16 * 3 * 3, "8.weight": 160}  # of one image through it
DENSE = ("--data", "tiny", "--batch-size", "16", "--model", "tiny")
OF = (*SPARSE, "--model", "tiny")
CYCLES = ("--epochs", "6", "--sup-tickets", "--cycle-epochs", "1", "--num-tickets", "3", "--save-tickets")
REGIMES: dict[str, tuple[str, ...]] = {
    "edst": (*OF, "--edst", "--epochs", "9", "--exploration-epochs", "3", "--refine-epochs", "2"),
    "snapshot": (*DENSE, "--snapshot", "--epochs", "5", "--num-tickets", "2"),  # 8 steps and 7, not whole epochs
    "fge": (*DENSE, "--fge", "--epochs", "8", "--cycle-epochs", "3", "--num-tickets", "2"),  # 4 steps down, 5 up
    "pf": (*OF, "--method", "pf", "--epochs", "6"),
    "dst": (*OF, "--epochs", "3", "--ensemble", "2", "--seed", "1"),
    "dense ensemble": (*DENSE, "--epochs", "2", "--ensemble", "2"),
    "gmp": (*OF, "--method", "gmp", "--prune-end", "0.5", "--epochs", "6", "--save-early", "0.05"),
    "ltr": (*OF, "--method", "static", "--epochs", "3", "--rewind", "GMP", "--ensemble", "2"),
    "distilled": (*OF, "--method", "set", "--epochs", "4", "--distill", "TICKETS", "--temperature", "2"),
    "swa 1": (*OF, *CYCLES, "--method", "pf", "--growth", "none", "--cycle-lr", "swa"),
    "swa 2": (*OF, *CYCLES, "--method", "static", "--growth", "none", "--cycle-lr", "swa"),
    "fge cycles": (*OF, *CYCLES, "--cycle-lr", "fge", "--include-normal"),
    "high variance": (*OF, *CYCLES, "--explore-drop", "largest", "smallest", "smallest",
                      "--explore-growth", "gradient", "random", "random"),
    "snfs": (*OF, *CYCLES, "--method", "snfs"),
    "dsr": (*OF, *CYCLES, "--method", "dsr"),
}  # fmt: skip
ENSEMBLES = ("dst", "dense ensemble", "ltr")
LABELS = torch.arange(37) % 10


class Runs:
    """Finished runs by name, each trained once, those that others need before them."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def options(self, name: str) -> list[str]:
        words: list[str] = []
        for word in REGIMES[name]:
            words += [str(self("gmp"))] if word == "GMP" else [word] if word != "TICKETS" else self.teachers()
        return words

    def teachers(self) -> list[str]:
        return [str(path) for path in tickets_of(self("edst"))]

    def __call__(self, name: str) -> Path:
        if not (self.root / name).exists():
            assert main(self.root / name, *self.options(name))[0] == 0
        return self.root / name


def summary(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "summary.json").read_text())


def tickets_of(folder: Path) -> list[Path]:
    """Those whose predictions are averaged."""
    members = sorted(folder.glob("member-*/ticket.safetensors"))
    return members or sorted(folder.glob("tickets/ticket-*.safetensors"))


def count(ticket: dict[str, Tensor]) -> int:
    return sum(int(ticket[name].count_nonzero()) for name in MACS)


def share(ticket: dict[str, Tensor]) -> float:
    """FLOPs of one image, of those of the dense network."""
    density = {name: int(ticket[name].count_nonzero()) / ticket[name].numel() for name in MACS}
    return sum(density[name] * macs for name, macs in MACS.items()) / sum(MACS.values())


def logits(ticket: dict[str, Tensor]) -> Tensor:
    model = NETWORKS["tiny"](10).eval()
    model.load_state_dict(ticket)
    test = load_images("", None, "cpu").test
    with torch.no_grad():
        return torch.cat([model(images) for images, _ in test.clean_batches([(0, 37)])])
