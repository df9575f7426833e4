"""Runs of main_cifar.py in several processes, and what each of them saw."""

import contextlib
import dataclasses
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from accelerate import Accelerator
from torch import nn

from sparselearning import Masking
from tests.tiny import SPARSE, load_images, main
from utils.training.evaluation import evaluate

# 3 ordinary epochs and 2 cycles of one, of 3 steps each
CYCLES = ("--epochs", "5", "--sup-tickets", "--cycle-epochs", "1", "--num-tickets", "2")
PARTS = ("--limit-train", "45", *CYCLES)  # the last batch of an epoch has 13 images, in unequal parts
RUN = (*SPARSE, *CYCLES, "--model", "tiny", "--batch-size", "8", "--resume", "auto")


@dataclasses.dataclass
class Case:
    """One run of main_cifar.py; the process `rank` gets SIGTERM after step `stop`."""

    folder: Path
    options: Sequence[str]
    stop: int | None = None
    rank: int = 0


def own_rank() -> int:
    return int(os.environ.get("RANK", 0))


def run_all(cases: Sequence[Case]) -> None:
    """Run the cases one after the other; next to each folder lie the exit statuses and the masks at every update."""
    for case in cases:
        updates: list[dict[str, Any]] = []
        with recorded(updates):
            status, out, err = main(case.folder, *case.options, stop=case.stop if own_rank() == case.rank else None)
        case.folder.with_suffix(f".{own_rank()}.json").write_text(json.dumps([status, out, err]))
        torch.save(updates, case.folder.with_suffix(f".{own_rank()}.pt"))


@contextlib.contextmanager
def recorded(updates: list[dict[str, Any]]) -> Iterator[None]:
    original = Masking.update_topology

    def update_topology(masking: Masking, *args: Any) -> None:
        original(masking, *args)
        updates.append({"step": masking.step} | {name: mask.clone() for name, mask in masking.masks.items()})

    with mock.patch.object(Masking, "update_topology", update_topology):
        yield


def statuses(folder: Path, world: int) -> list[int]:
    results = [json.loads(folder.with_suffix(f".{rank}.json").read_text()) for rank in range(world)]
    assert all("Traceback" not in err for _, _, err in results), results
    return [status for status, _, _ in results]


def updates_of(folder: Path, rank: int = 0) -> list[dict[str, Any]]:
    return torch.load(folder.with_suffix(f".{rank}.pt"), weights_only=True)


def evaluated(model: nn.Module) -> dict[str, float]:
    """The metrics of a model on the test images, by this process alone."""
    with mock.patch("utils.training.evaluation.BATCH", 8):
        return evaluate(Accelerator(cpu=True), model, load_images("", None, "cpu").test)
