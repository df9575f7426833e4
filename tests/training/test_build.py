"""What is made of the command line before a run: its masks, its updates, and the images that SNIP sees."""

from typing import Any

import pytest
import torch
from torch import nn

from sparselearning import Masking
from tests.maskings import masking_of
from utils.command_line.options import CifarOptions
from utils.command_line.parser import parse
from utils.data.cifar import load_cifar
from utils.training.build import snip_batches

EPOCH = 10  # steps


def masking(words: str, epoch: int = EPOCH) -> Masking:
    torch.manual_seed(0)
    options = parse(CifarOptions, "", ["--sparse", *words.split()])
    return masking_of(options, nn.Sequential(nn.Linear(20, 20), nn.Linear(20, 20)), epoch)


@pytest.mark.parametrize(
    ("words", "attribute", "value"),
    [
        ("--density 0.3", "target_nnz", 240),
        ("--density 0.3", "nnz", 240),
        ("--density 0.3 --exempt 1.*", "nnz", 120),
        ("--method granet --init-density 0.7", "nnz", 560),
        ("--method granet", "nnz", 400),
        ("--method gmp", "nnz", 800),
        ("--method gmp --prune-end 0.2", "prune_end", 500),  # of 250 epochs of 10 steps
        ("--method gmp --prune-end 0.2 --sup-tickets", "prune_end", 500),  # not of the 226 before the cycles
        ("--prune-rate 0.3", "prune_rate", 0.3),
        ("--prune-rate-decay linear", "prune_rate_decay", "linear"),
        ("--growth random", "growth", "random"),
        ("--method set --growth momentum", "growth", "momentum"),
        ("--method set", "growth", "random"),
        ("--update-frequency 7", "update_frequency", 7),
        ("--update-limit 40", "update_frequency", 40),
        ("", "update_frequency", 125),  # a twentieth of 2,500 steps
        ("--sup-tickets", "update_frequency", 113),  # of 2,260
        ("", "total_steps", 2500),
        ("--sup-tickets", "total_steps", 2260),
    ],
)
def test_options_are_those_of_the_masks(words: str, attribute: str, value: Any) -> None:
    assert getattr(masking(words), attribute) == value


def test_another_seed_has_other_connections() -> None:
    first, again, other = (masking(f"--seed {seed}").masks for seed in (1, 1, 2))
    for name in first:
        assert torch.equal(first[name], again[name]) and not torch.equal(first[name], other[name])


@pytest.mark.parametrize(
    ("epoch", "frequency"), [(1, 1), (19, 1), (20, 1), (21, 2), (39, 2), (40, 2), (41, 3), (20_001, 1000)]
)
def test_a_short_run_moves_less_than_20_times(epoch: int, frequency: int) -> None:
    moving = masking("--epochs 1", epoch)
    assert moving.update_frequency == frequency
    assert epoch > 20_000 or (epoch - 1) // frequency < 20


def test_snip_sees_ten_images_per_class_of_no_run() -> None:
    train = load_cifar("digits", None, "cpu").train
    batches = [list(snip_batches(train)) for _ in range(2)]
    images, labels = (torch.cat(part) for part in zip(*batches[0], strict=True))
    assert len(images) == len(labels) == 10 * 10
    assert torch.equal(torch.cat([x for x, _ in batches[1]]), images)
    for seed in range(5):
        for epoch in range(5):
            others, _ = train.epoch(seed, epoch).batch(0, 100)
            assert not torch.equal(others, images)
    few = load_cifar("digits", None, "cpu", limit_train=30).train
    assert sum(len(x) for x, _ in snip_batches(few)) == 30
