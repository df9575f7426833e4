"""Pictures of what tickets predict, and of their connections, beside loops over all images and weights."""

import itertools

import pytest
import torch

from models import build
from sparselearning.layers import maskable_weights
from tests.pictures.conftest import ABOUT, network
from utils.pictures.heat_maps import disagreement_matrix, overlap_matrix
from utils.pictures.reliability import diagram
from utils.pictures.reliability import draw as draw_diagrams
from utils.pictures.trajectories import project
from utils.reporting.style import plt
from utils.run_folder.tickets import save_ticket, trajectory_name
from utils.training.metrics import ECE_BINS


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def test_disagreement_is_the_fraction_of_images_that_two_models_predict_differently():
    outputs = torch.randn(4, 50, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).log_softmax(2)
    matrix = disagreement_matrix(outputs)
    for i, j in itertools.product(range(4), repeat=2):
        differ = [int(outputs[i, n].argmax() != outputs[j, n].argmax()) for n in range(50)]
        assert matrix[i, j] == sum(differ) / 50
    assert matrix.diagonal().tolist() == [0.0] * 4 and matrix.max() > 0.3


def test_overlap_is_the_share_of_connections_that_two_tickets_have_in_common():
    tickets = [{name: network(seed)[name] != 0 for name in maskable_weights(build("resnet20", 10, 0.25))}
               for seed in range(3)]  # fmt: skip
    sets = [{(name, *place) for name, mask in masks.items() for place in mask.nonzero().tolist()} for masks in tickets]
    matrix = overlap_matrix(tickets)
    for (i, a), (j, b) in itertools.product(enumerate(sets), repeat=2):
        assert matrix[i, j] == pytest.approx(2 * len(a & b) / (len(a) + len(b)))
    assert 0.45 < matrix[0, 1] < 0.55 and matrix[1, 1] == 1  # two halves at random


def test_a_heat_map_names_the_tickets(tickets, draw):
    found = draw("overlap", "--tickets", *tickets, "--names", "a", "b", "c")
    assert found["names"] == ["a", "b", "c"] and len(found["overlap"]) == 3
    found = draw("disagreement", "--tickets", *tickets, "--limit-test", 20)
    assert found["names"] == ["ticket-1", "ticket-2", "ticket-3"]
    assert found["disagreement"][0][0] == 0 and found["disagreement"][0][1] == found["disagreement"][1][0]


def test_a_reliability_diagram_has_the_bins_of_ece():
    """Among them a confidence of exactly 1, one on the edge of two bins, and bins without images."""
    confidence = torch.tensor([1.0, 0.6, 0.62, 0.95, 0.99, 8 / 15], dtype=torch.float64)
    outputs = torch.stack((confidence, 1 - confidence), 1).log()
    labels = torch.tensor([0, 0, 1, 0, 1, 0])
    found = diagram("a", outputs, labels)
    for b in range(ECE_BINS):
        inside = [i for i, c in enumerate(confidence.tolist()) if b / 15 < c <= (b + 1) / 15]
        right = [int(labels[i] == 0) for i in inside]
        assert found["share"][b] == pytest.approx(len(inside) / 6)
        assert found["accuracy"][b] == (pytest.approx(sum(right) / len(right)) if inside else 0)
    assert found["share"][7] == pytest.approx(1 / 6) and found["share"][14] == pytest.approx(0.5)
    gaps = zip(found["share"], found["accuracy"], found["confidence"], strict=True)
    assert sum(share * abs(a - c) for share, a, c in gaps) == pytest.approx(found["metrics"]["ece"])
    axis = draw_diagrams([found]).axes[0]
    assert [bar.get_height() for bar in axis.patches] == found["accuracy"]
    assert axis.get_title().startswith("a\naccuracy 66.67 %, ECE ")


def test_of_several_tickets_there_is_a_diagram_of_their_ensemble(tickets, draw):
    found = draw("reliability", "--tickets", *tickets[:2], "--limit-test", 20)
    assert [model["name"] for model in found] == ["ticket-1", "ticket-2", "ensemble"]
    assert len(draw("reliability", "--tickets", tickets[0], "--limit-test", 20)) == 1


def test_networks_that_predict_alike_lie_together():
    rng = torch.Generator().manual_seed(0)
    centers = torch.randn(2, 1, 30, 5, generator=rng)
    outputs = (centers + 0.1 * torch.randn(2, 8, 30, 5, generator=rng)).flatten(0, 1).softmax(2)
    places = torch.tensor(project(outputs))
    assert torch.equal(places, torch.tensor(project(outputs)))
    first, second = places[:8], places[8:]
    assert (first.mean(0) - second.mean(0)).norm() > 2 * max(first.std(0).norm(), second.std(0).norm())


def test_a_trajectory_is_a_line_for_every_phase_of_every_run(tmp_path, draw):
    files = [tmp_path / run / trajectory_name(epoch) for run in ("run-a", "run-b") for epoch in (1, 2, 10)]
    for seed, file in enumerate(files):
        save_ticket(file, network(seed), {**ABOUT, "phase": "explore" if "0010" not in file.name else "refine 1"})
    parts = draw("trajectories", "--tickets", *files, "--limit-test", 20)
    names = ["run-a explore", "run-a refine 1", "run-b explore", "run-b refine 1"]
    assert [part["name"] for part in parts] == names and [len(part["places"]) for part in parts] == [2, 1, 2, 1]
