"""Tickets to draw: untrained networks, sparse in part, that digits are shown to."""

import json
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor

from models import build
from sparselearning.layers import maskable_weights
from tests.commands import refused_by, run_command
from utils.picture import main
from utils.reporting.style import plt
from utils.run_folder.tickets import save_ticket

ABOUT = {"data": "digits", "model": "resnet20", "width": 0.25, "limit_train": 256, "valid_fraction": 0.0}


def network(seed: int) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    model = build("resnet20", 10, 0.25)
    for weight in maskable_weights(model).values():
        weight.data[torch.rand_like(weight) < 0.5] = 0
    model(torch.randn(8, 3, 32, 32))  # batch-norm statistics of some use
    return model.state_dict()


@pytest.fixture(scope="package")
def tickets(tmp_path_factory) -> list[Path]:
    folder = tmp_path_factory.mktemp("run") / "tickets"
    paths = [folder / f"ticket-{seed}.safetensors" for seed in (1, 2, 3)]
    for seed, path in enumerate(paths):
        save_ticket(path, network(seed), ABOUT)
    return paths


@pytest.fixture
def draw(tmp_path):
    """Call it with a command line: returns the numbers of the picture, which is there."""

    def call(*words: object) -> object:
        file, numbers = tmp_path / "new.png", tmp_path / "new.json"
        run_command(main, *words, "--output", file, "--json", numbers)
        assert plt.imread(file).shape[1] > 450 and not plt.get_fignums()
        return json.loads(numbers.read_text())

    return call


@pytest.fixture
def refused():
    """Call it with a command line that is wrong: returns the one line on stderr."""
    return partial(refused_by, main)
