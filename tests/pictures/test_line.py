"""The loss on the straight line between two tickets, beside networks averaged and evaluated by hand."""

import pytest
import torch
from accelerate import Accelerator

from models import build
from tests.pictures.conftest import network
from utils.data.cifar import load_cifar
from utils.pictures.line import NEW, OWN, between, draw, points
from utils.reporting.style import ACCENT, plt
from utils.training.evaluation import recompute_batch_norm
from utils.training.metrics import per_sample, summarize
from utils.training.saved import predict

TEST = 20
WORDS = ("--limit-test", TEST, "--points", 3)


def test_the_line_between_a_ticket_and_itself_is_flat(tickets, draw):
    way = draw("line", "--tickets", tickets[0], tickets[0], "--limit-test", TEST, "--points", 5)
    assert way["places"] == [0, 0.25, 0.5, 0.75, 1] and (way["test"], way["train"]) == (TEST, 256)
    for metrics in way["metrics"].values():
        assert len(metrics) == 5 and all(numbers == metrics[0] for numbers in metrics)


def test_the_middle_of_a_line_is_the_mean_of_its_tickets(tickets, draw):
    way = draw("line", "--tickets", *tickets, *WORDS, "--limit-train", 128)
    assert way["places"] == [0, 0.5, 1, 1.5, 2] and way["names"] == ["ticket-1", "ticket-2", "ticket-3"]
    images = load_cifar("digits", None, "cpu", limit_train=128, limit_test=TEST)
    model, (a, b) = build("resnet20", 10, 0.25), (network(seed) for seed in (1, 2))
    mean = {name: (a[name] + b[name]) / 2 if a[name].is_floating_point() else a[name] for name in a}
    for kind in (OWN, NEW):
        model.load_state_dict(mean)
        if kind == NEW:
            recompute_batch_norm(Accelerator(cpu=True), model, images.train.epoch(0, 0), 128)
        numbers = summarize(per_sample(predict(model, images.test), images.test.labels))
        assert way["metrics"][kind][3] == pytest.approx(numbers, rel=1e-3)


def test_the_ends_of_a_line_are_its_tickets_to_the_bit():
    ends = [network(seed) for seed in (0, 1)]
    (_, first), *_, (_, last) = points(ends, 4)
    for found, ticket in zip((first, last), ends, strict=True):
        assert all(torch.equal(found[name], ticket[name]) for name in ticket if "num_batches" not in name)
    assert torch.equal(between(*ends, 0.5)["bn1.num_batches_tracked"], ends[0]["bn1.num_batches_tracked"])


def test_the_tickets_are_marked_on_the_curve():
    numbers = [{"nll": float(i), "accuracy": 10.0 * i} for i in range(5)]
    way = {"names": ["a", "b", "c"], "train": 9, "test": 99, "places": [0, 0.5, 1, 1.5, 2],
           "metrics": {OWN: numbers[::-1], NEW: numbers}}  # fmt: skip
    loss, accuracy = draw(way).axes
    (curve,) = (line for line in loss.get_lines() if line.get_label() == NEW)
    assert list(curve.get_xdata()) == way["places"] and list(curve.get_ydata()) == [0, 1, 2, 3, 4]
    (marks,) = (line for line in accuracy.get_lines() if line.get_color() == ACCENT)
    assert list(zip(marks.get_xdata(), marks.get_ydata(), strict=True)) == [(0, 0), (1, 20), (2, 40)]
    assert [label.get_text() for label in accuracy.get_xticklabels()] == ["a", "b", "c"]
    assert "99 test images" in loss.get_title() and "9 training images" in loss.get_title()
    plt.close("all")
