"""The ImageNet recipe at any length, and main_imagenet.py end to end on generated photographs."""

import contextlib
import io
import json
import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from unittest import mock

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState, GradientState
from PIL import Image
from safetensors.torch import load_file
from torch import nn

import main_imagenet
import utils.reporting.summary
from models.classifiers import build
from sparselearning.errors import UsageError
from sparselearning.phases import Exploration
from tests.maskings import masking_of
from tests.tiny import Tiny, differences, outcome, signal_at
from utils.command_line.errors import one_line_errors
from utils.command_line.options import CifarOptions, ImageNetOptions
from utils.command_line.parser import parse
from utils.training.batches import Batches, count_steps
from utils.training.build import make_optimizer
from utils.training.plan import make_plan

CPU = cast(Any, SimpleNamespace(device=torch.device("cpu"), mixed_precision="no"))
SUP = ("--sparse", "--method", "granet", "--density", "0.1", "--sup-tickets")
PER_EPOCH = 20


def recipe(*options: str) -> ImageNetOptions:
    return parse(ImageNetOptions, "", options)


# ---- the recipe ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("epochs", [100, 50, 200, 75])
def test_the_plan_of_the_paper_scales_with_the_epochs(epochs: int) -> None:
    normal, *cycles = make_plan(recipe(*SUP, "--epochs", str(epochs)), PER_EPOCH, 128)
    tickets = int(0.08 * epochs) // 2
    assert [(c.end - c.start, c.ticket, c.updates, c.explore) for c in cycles] == [
        (40, True, False, Exploration(0.5))
    ] * tickets
    assert (normal.end, cycles[-1].end) == ((epochs - 2 * tickets) * PER_EPOCH, epochs * PER_EPOCH)
    rates = np.array([normal.lr(step) for step in range(normal.end)])
    warm = round(0.05 * epochs * PER_EPOCH)
    falls = [step for step in range(warm, normal.end) if rates[step] < rates[step - 1]]
    assert falls == [int(part * epochs + 1e-9) * PER_EPOCH for part in (0.3, 0.6, 0.85)]
    assert np.allclose(rates[:warm], 0.1 * np.arange(1, warm + 1) / warm) and rates[warm] == 0.1
    for cycle in cycles:
        course = [cycle.lr(step) for step in range(40)]
        assert (course[-1], max(course)) == (1e-4, 5e-4)


def test_a_run_without_tickets_falls_at_the_same_epochs() -> None:
    (normal,) = make_plan(recipe("--sparse"), PER_EPOCH, 128)
    by_epoch = [normal.lr(epoch * PER_EPOCH) for epoch in range(100)]
    assert [e for e in range(6, 100) if by_epoch[e] < by_epoch[e - 1]] == [30, 60, 85]
    assert normal.end == 100 * PER_EPOCH


def test_the_number_of_tickets_goes_before_the_recipes_fraction() -> None:
    args = recipe(*SUP, "--epochs", "8", "--cycle-epochs", "1", "--num-tickets", "3")
    assert [phase.end for phase in make_plan(args, PER_EPOCH, 128)] == [100, 120, 140, 160]


def test_scale_lr_scales_every_rate_by_the_whole_batch() -> None:
    plain, scaled = (make_plan(recipe(*SUP, *extra), PER_EPOCH, 1024) for extra in ((), ("--scale-lr",)))
    for a, b in zip(plain, scaled, strict=True):
        assert b.lr(25) == pytest.approx(8 * a.lr(25))


@pytest.mark.parametrize(("per_epoch", "frequency"), [(10009, 4000), (20, 92)])
def test_topology_follows_the_paper(per_epoch: int, frequency: int) -> None:
    masking = masking_of(recipe(*SUP), Tiny(10), per_epoch)
    assert (masking.update_frequency, masking.prune_end) == (frequency, 30 * per_epoch)
    assert (masking.prune_rate, masking.prune_rate_decay, masking.total_steps) == (0.5, "cosine", 92 * per_epoch)
    assert (masking.init_density, masking.density) == (0.5, 0.1)


def test_norms_are_exempt_from_weight_decay() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.LayerNorm(4), nn.GroupNorm(2, 4), nn.Linear(4, 2))
    decay = {
        id(p): group["weight_decay"]
        for group in make_optimizer(recipe(), model, CPU).param_groups
        for p in group["params"]
    }
    expected = {"0": 1e-4, "1": 0.0, "2": 0.0, "3": 0.0, "4": 1e-4}
    assert {name: decay[id(p)] for name, p in model.named_parameters()} == {
        f"{i}.{kind}": value for i, value in expected.items() for kind in ("weight", "bias")
    }
    (group,) = make_optimizer(parse(CifarOptions, "", ()), model, CPU).param_groups
    assert group["weight_decay"] == 5e-4


@pytest.mark.parametrize("images", [1_281_167, 9_469, 333, 257, 258])
@pytest.mark.parametrize("world", [1, 2, 3, 4, 8])
def test_every_process_takes_the_same_steps(images: int, world: int) -> None:
    batch, accumulation = 16, 2
    whole, parts = batch * world * accumulation, world * accumulation
    steps = count_steps(images, whole, parts)
    for position in {0, steps // 2, steps - 1}:
        taken: list[tuple[int, int]] = []
        for rank in range(world):
            own = Batches(images, whole, parts, steps).parts_of(position, rank, world)
            assert len(own) == accumulation and all(stop - start >= 2 for start, stop in own)
            taken += own
        edges = [edge for part in sorted(taken) for edge in part]
        assert edges[1:-1:2] == edges[2::2]  # without gap or overlap
        assert (edges[0], edges[-1]) == (position * whole, min((position + 1) * whole, images))


# ---- models --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["resnet18", "squeezenet1_1", "mnasnet0_5"])
def test_classifiers_of_torchvision(name: str) -> None:
    model = build(name, 7, 64)
    assert model.training and model(torch.zeros(2, 3, 64, 64)).shape == (2, 7)


@pytest.mark.parametrize(
    ("name", "size", "says"), [("resnt50", 224, "did you mean resnet50"), ("alexnet", 16, "--image-size 16")]
)
def test_what_torchvision_does_not_have_is_refused(name: str, size: int, says: str) -> None:
    with pytest.raises(UsageError, match=says) as error:
        build(name, 10, size)
    assert "\n" not in str(error.value)


# ---- end to end ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes that differ in colour, 44 images to train and 13 to test on."""
    root, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for split, count in (("train", 44), ("val", 13)):
        for i in range(count):
            place = root / split / f"class{i % 3}"
            place.mkdir(parents=True, exist_ok=True)
            pixels = rng.integers(0, 128, (40, 48, 3), dtype=np.uint8)
            pixels[:, :, i % 3] += 100
            Image.fromarray(pixels).save(place / f"{i}.jpg")
    return root


@contextlib.contextmanager
def world(*options: str) -> Iterator[None]:
    """A command line, a tiny network and no pictures; leaves everything as it was."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with (
            mock.patch.object(main_imagenet, "build", lambda name, classes, size, width: Tiny(classes)),
            mock.patch.object(utils.reporting.summary, "draw_learning_curve"),
            mock.patch.object(utils.reporting.summary, "draw_sparsity"),
            mock.patch.object(sys, "argv", ["main_imagenet.py", *options]),
        ):
            yield
    finally:
        torch.set_num_threads(threads)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        AcceleratorState._reset_state()
        GradientState._reset_state()


def main(folder: Path, *options: str, stop: int | None = None) -> tuple[int, str, str]:
    """Run main_imagenet.py in this process; returns its exit status and what it wrote on stdout and stderr."""
    out, err, status = io.StringIO(), io.StringIO(), 0
    common = ("--data-dir", str(folder), "--image-size", "32", "--batch-size", "16")
    with (
        world(*common, *options),
        signal_at(stop),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            with one_line_errors():
                main_imagenet.main()
        except SystemExit as end:
            status = int(end.code or 0)
    return status, out.getvalue(), err.getvalue()


RUN = (*SUP, "--epochs", "6", "--cycle-epochs", "1", "--num-tickets", "2", "--update-frequency", "2")  # 3 steps each


@pytest.fixture(scope="module")
def straight(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("straight")
    status, _, err = main(folder, *RUN, "--workers", "0", "--output-dir", str(path))
    assert (status, err) == (0, "")
    return path


def test_a_run_ends_with_an_exact_ticket(straight: Path) -> None:
    summary = json.loads((straight / "summary.json").read_text())
    ticket = load_file(straight / "ticket.safetensors")
    nonzero = {name: int(ticket[name].count_nonzero()) for name in summary["nnz_per_layer"]}
    assert nonzero == summary["nnz_per_layer"]
    assert sum(nonzero.values()) == summary["nnz"] == round(0.1 * summary["maskable"])
    assert len(summary["test"]["tickets"]) == 2 and summary["test"]["superposed"]["accuracy"] > 0
    assert summary["epochs"] == 6 and summary["method"] == "granet"


@pytest.mark.parametrize("workers", ["0", "1"])
def test_a_run_that_is_cut_inside_an_epoch_ends_with_the_same_bits(
    folder: Path, straight: Path, tmp_path: Path, workers: str
) -> None:
    options = (*RUN, "--workers", workers, "--output-dir", str(tmp_path), "--resume", "auto")
    assert main(folder, *options, stop=5)[0] == 143
    assert main(folder, *options, stop=13)[0] == 143
    assert main(folder, *options)[0] == 0
    assert differences(outcome(straight), outcome(tmp_path)) == []


def test_eval_only_gives_the_numbers_of_the_summary(folder: Path, straight: Path) -> None:
    status, out, err = main(folder, "--eval-only", "--ticket", str(straight / "ticket.safetensors"), "--workers", "0")
    superposed = json.loads((straight / "summary.json").read_text())["test"]["superposed"]
    assert (status, err) == (0, "")
    assert dict(re.findall(r"(\w+) ([\d.]+)", out)) == {name: f"{value:.4f}" for name, value in superposed.items()}


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--eval-only",), "--ticket"),
        (("--ticket", "x"), "--eval-only"),
        (("--eval-only", "--ticket", "nowhere.safetensors"), "no ticket nowhere"),
        (("--limit-train", "9999"), "cannot take the first 9999"),
        (("--image-size", "0"), "--image-size 0 is not a positive number"),
        (("--workers", "-1"), "--workers -1 is not"),
    ],
)
def test_mistakes_end_in_one_line(folder: Path, tmp_path: Path, options: tuple[str, ...], says: str) -> None:
    status, _, err = main(folder, "--workers", "0", *options, "--output-dir", str(tmp_path / "run"))
    assert status == 2 and says in err and err.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_the_share_of_waiting_is_recorded(straight: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = EventAccumulator(str(straight / "tensorboard"))
    board.Reload()
    waits = [event.value for event in board.Scalars("speed/data_wait")]
    assert len(waits) == 6 and all(0 < wait < 1 for wait in waits)
