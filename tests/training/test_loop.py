"""A run against its own description: every step, every logged number and every ticket, computed by formula."""

import csv
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from tests.tiny import NETWORKS, Tiny, load_images, main
from utils.reporting.tracking import Tracker

EPOCHS, STEPS, BATCH, IMAGES = 11, 3, 16, 44  # the last batch of an epoch has 12
MORE, WHOLE = 54, 48  # images, of which an epoch leaves 6 out
DECAY, MOMENTUM = 0.01, 0.8
WORDS = ("--data", "tiny", "--model", "norm", "--batch-size", str(BATCH), "--epochs", str(EPOCHS), "--lr", "0.1",
         "--weight-decay", str(DECAY), "--momentum", str(MOMENTUM))  # fmt: skip
SUP = ("--sup-tickets", "--cycle-epochs", "2", "--num-tickets", "3", "--lr-low", "0.01", "--lr-high", "0.06",
       "--growth", "none", "--save-tickets")  # fmt: skip
# learning rate of each step: falls by 10 at the half and at three quarters of the normal phase, to whole epochs of it;
# then Eq. 3, in cycles that start at no multiple of their length
PLAIN = [0.1] * 15 + [0.01] * 9 + [0.001] * 9
CYCLE = [0.01 + 0.05 * part for part in (1 / 3, 2 / 3, 1, 2 / 3, 1 / 3, 0)]
CYCLIC = [0.1] * 6 + [0.01] * 3 + [0.001] * 6 + 3 * CYCLE


def by_hand(
    seed: int, rates: list[float], masks: dict[str, Tensor], smoothing: float, more: bool
) -> Iterator[tuple[dict[str, Any], dict[str, Tensor]]]:
    """After every epoch, what a row of metrics.csv should say, and a copy of the state dict.

    SGD: v ← μ·v + g + λ·w and w ← w − α·v, of the weights that exist.
    """
    torch.manual_seed(seed)
    model = NETWORKS["norm"](10, 1.0)
    trained = WHOLE if more else IMAGES
    splits = load_images("tiny", None, "cpu", limit_train=MORE if more else None, valid_fraction=0.1 * more)
    parameters = dict(model.named_parameters())
    velocity = {name: torch.zeros_like(parameter) for name, parameter in parameters.items()}
    for name, mask in masks.items():
        parameters[name].data.mul_(mask)
    for epoch in range(EPOCHS):
        order, loss, correct = splits.train.epoch(seed, epoch), 0.0, 0
        model.train()
        for step in range(STEPS):
            images, labels = order.batch(BATCH * step, min(BATCH * (step + 1), trained))
            logits = model(images)
            wanted = (1 - smoothing) * F.one_hot(labels, 10) + smoothing / 10
            losses = -(wanted * logits.log_softmax(1)).sum(1)
            gradients = torch.autograd.grad(losses.mean(), list(parameters.values()))
            for (name, parameter), gradient in zip(parameters.items(), gradients, strict=True):
                decay = 0.2 if more and name.startswith("1.") else DECAY  # of the norm layer
                velocity[name] = (MOMENTUM * velocity[name] + gradient + decay * parameter.data) * masks.get(name, 1)
                parameter.data.sub_(rates[STEPS * epoch + step] * velocity[name])
            loss, correct = loss + losses.sum().item(), correct + int((logits.argmax(1) == labels).sum())
        row: dict[str, Any] = {"epoch": epoch + 1, "step": STEPS * (epoch + 1), "lr": rates[STEPS * epoch + STEPS - 1],
                               "loss": loss / trained, "accuracy": 100 * correct / trained}  # fmt: skip
        if splits.valid is not None:
            images, labels = splits.valid.clean_batch(0, 20)
            row["valid_accuracy"] = 100 * (model.eval()(images).argmax(1) == labels).double().mean().item()
        yield row, {name: tensor.clone() for name, tensor in model.state_dict().items()}


def rows_of(folder: Path) -> list[dict[str, float]]:
    with open(folder / "metrics.csv") as file:
        return [{k: float(v) for k, v in row.items() if v and k != "phase"} for row in csv.DictReader(file)]


def same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=2e-3, atol=2e-4, msg=lambda text, name=name: name + text)


@pytest.mark.parametrize(
    ("seed", "words", "rates", "smoothing"),
    [
        (3, (), PLAIN, 0.0),
        (
            4,
            (
                "--limit-train",
                str(MORE),
                "--valid-fraction",
                "0.1",
                "--label-smoothing",
                "0.2",
                "--norm-weight-decay",
                "0.2",
            ),
            PLAIN,
            0.2,
        ),
        (5, ("--sparse", "--method", "static", "--density", "0.3", *SUP), CYCLIC, 0.0),
    ],
)
def test_a_run_is_the_one_by_hand(
    seed: int, words: tuple[str, ...], rates: list[float], smoothing: float, tmp_path: Path
) -> None:
    assert main(tmp_path, *WORDS, *words, "--seed", str(seed))[0] == 0
    tickets = [load_file(path) for path in sorted(tmp_path.glob("tickets/*"))]
    masks = {}
    if tickets:  # the connections never move, so that any ticket tells them
        masks = {name: tickets[0][name] != 0 for name in ("0.weight", "4.weight", "8.weight")}
        assert sum(int(mask.sum()) for mask in masks.values()) == round(0.3 * sum(m.numel() for m in masks.values()))
    epochs = list(by_hand(seed, rates, masks, smoothing, "--limit-train" in words))
    for found, (expected, _) in zip(rows_of(tmp_path), epochs, strict=True):
        assert {name: found[name] for name in expected} == pytest.approx(expected, rel=1e-3)
        assert ("valid_accuracy" in found) == ("valid_accuracy" in expected)
    if not tickets:
        return same(load_file(tmp_path / "ticket.safetensors"), epochs[-1][1])
    ends = [epochs[epoch][1] for epoch in (6, 8, 10)]
    for ticket, end in zip(tickets, ends, strict=True):
        same(ticket, end)
    mean = {name: sum(end[name] for end in ends) / 3 for name in ends[0]}
    counter = "1.num_batches_tracked"
    same(load_file(tmp_path / "ticket.safetensors"), mean | {counter: ends[-1][counter]})


def test_the_density_of_a_run_follows_its_cubic_and_what_was_dropped_and_grown_adds_up(tmp_path: Path) -> None:
    """GraNet from 0.8 to 0.2 in the first 12 of 33 steps; connections move after every second step."""
    words = ("--sparse", "--method", "granet", "--init-density", "0.8", "--density", "0.2", "--update-frequency", "2",
             "--prune-end", "0.36", "--prune-rate", "0.25")  # fmt: skip
    assert main(tmp_path, *WORDS, *words)[0] == 0
    total = sum(p.numel() for name, p in Tiny(10).named_parameters() if name in ("0.weight", "4.weight", "8.weight"))
    rows = rows_of(tmp_path)
    for row in rows:
        moved = int(row["step"]) // 2 * 2
        density = 0.2 + 0.6 * (1 - min(moved / 12, 1)) ** 3
        assert row["density"] == pytest.approx(round(density * total) / total)
        assert row["dropped"] - row["grown"] == round(0.8 * total) - round(row["density"] * total)
        assert 0 < row["grown"] < row["dropped"]
        assert 0.8 < row["explored"] <= 1
    assert rows[-1]["explored"] > rows[0]["explored"]


class Draws(nn.Module):
    """Where a network would drop out at random: takes down the random numbers that it would meet."""

    seen: list[tuple[float, ...]] = []  # noqa: RUF012

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.seen.append(tuple(torch.rand(4).tolist()))
        return x


def drawing(classes: int, width: float) -> nn.Module:
    model = Tiny(classes, width)
    model[3] = Draws()
    return model


def test_dropout_is_another_in_every_step_and_of_every_seed(tmp_path: Path) -> None:
    found = {}
    with mock.patch.dict(NETWORKS, norm=drawing):
        for name, seed in (("first", "0"), ("again", "0"), ("other", "1")):
            Draws.seen.clear()
            assert main(tmp_path / name, *WORDS, "--epochs", "2", "--seed", seed)[0] == 0
            found[name] = list(Draws.seen)
    assert found["first"] == found["again"] and len(found["first"]) == 2 * STEPS
    assert len({*found["first"], *found["other"]}) == 4 * STEPS


def test_speed_is_that_of_the_images_trained_on_in_the_time_of_all_parts_of_a_run(tmp_path: Path) -> None:
    """On a clock that goes on by a second in every optimizer step."""
    now, step = [0.0], Tracker.step

    def ticking(tracker: Tracker) -> None:
        now[0] += 1
        step(tracker)

    with mock.patch.object(time, "perf_counter", lambda: now[0]), mock.patch.object(Tracker, "step", ticking):
        assert main(tmp_path, *WORDS, stop=13)[0] == 143
        assert main(tmp_path, *WORDS, "--resume", "auto")[0] == 0
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["train_seconds"] == EPOCHS * STEPS
    assert summary["images_per_second"] == pytest.approx(IMAGES / STEPS)
    assert rows_of(tmp_path)[1]["images_per_second"] == pytest.approx(IMAGES / STEPS)
