"""SNIP's connections are the same on every process, whatever order each of them sums in."""

import os
from pathlib import Path

import pytest
import torch

from sparselearning import Masking, UsageError
from tests.processes import launch
from tests.tiny import NETWORKS


def process() -> int:
    return int(os.environ["RANK"])


@pytest.mark.parametrize("init", ["snip", "snip-layerwise"])
def test_snip_is_scored_by_one_process_for_all(init: str, tmp_path: Path) -> None:
    """Though the second one sees the images in another order, and sums of another order may exchange two scores."""
    assert launch(2, score, tmp_path / "snip", init) == [0, 0]
    first, second = (torch.load(tmp_path / f"snip.{rank}.pt", weights_only=True) for rank in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert sum(int(mask.sum()) for mask in first.values()) == round(0.3 * sum(m.numel() for m in first.values()))


def score(path: Path, init: str) -> None:
    torch.distributed.init_process_group("gloo")
    torch.manual_seed(0)
    model = NETWORKS["norm"](10, 1.0)
    images, labels = torch.randn(64, 3, 32, 32), torch.randint(10, (64,))
    order = torch.arange(64) if process() == 0 else torch.randperm(64)
    batches = [(images[order[i : i + 16]], labels[order[i : i + 16]]) for i in range(0, 64, 16)]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    masking = Masking(model, optimizer, "snip", 0.3, sparse_init=init, snip_batches=batches)
    torch.save({name: mask.clone() for name, mask in masking.masks.items()}, path.with_suffix(f".{process()}.pt"))


def test_a_mistake_that_snip_meets_on_the_first_process_ends_all(tmp_path: Path) -> None:
    assert launch(2, score_nothing, tmp_path) == [0, 0]
    assert len({(tmp_path / str(rank)).read_text() for rank in range(2)}) == 1


def score_nothing(folder: Path) -> None:
    torch.distributed.init_process_group("gloo")
    model = NETWORKS["norm"](10, 1.0)
    with pytest.raises(UsageError) as error:
        Masking(model, torch.optim.SGD(model.parameters(), lr=0.1), "snip", 0.3, snip_batches=iter(()))
    (folder / str(process())).write_text(str(error.value))
