"""In which layers the networks of an ensemble differ, beside loops over images and positions by scipy."""

import json
from itertools import permutations
from pathlib import Path

import pytest
import torch
from scipy.special import rel_entr, softmax
from torch import Tensor, nn

import utils.evaluate
from models import build
from models.ensembles import Ensemble
from tests.commands import run_command
from tests.pictures.conftest import ABOUT, network
from utils.data.cifar import load_cifar
from utils.pictures import features
from utils.pictures.features import divergence, draw, ensembles
from utils.reporting.style import plt
from utils.run_folder.tickets import save_ticket

FEW = ("--limit-test", 7)


def by_hand(maps: list[Tensor]) -> float:
    """Mean over images, positions and ordered pairs, of maps (N, C, ...) of several networks."""
    found = []
    for a, b in permutations(maps, 2):
        for one, other in zip(a.double().flatten(2), b.double().flatten(2), strict=True):
            for position in range(one.shape[1]):
                p, q = (softmax(image[:, position].numpy()) for image in (one, other))
                found.append(rel_entr(p, q).sum())
    return sum(found) / len(found)


def outputs_of(state: dict[str, Tensor], images: Tensor) -> dict[str, Tensor]:
    """What the layers of a network return, in their order, each (N, C, ...)."""
    model, found = build("resnet20", 10, 0.25).eval(), {}
    model.load_state_dict(state)
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(lambda _, __, out, name=name: found.update({name: out}))
    with torch.no_grad():
        model(images)
    return {name: out[..., None] if out.ndim == 2 else out for name, out in found.items()}


@pytest.mark.parametrize("shape", [(3, 5, 4, 3, 2), (2, 5, 4, 6), (3, 5, 4)])
def test_maps_are_predictions_at_each_position(shape, monkeypatch):
    maps = 3 * torch.randn(shape, generator=torch.Generator().manual_seed(0))
    found = divergence(maps)
    for image in range(shape[1]):
        rows = [own[image : image + 1].unsqueeze(-1) for own in maps]
        assert found[image].item() == pytest.approx(by_hand(rows))
    monkeypatch.setattr(features, "PIECE", 1)
    torch.testing.assert_close(divergence(maps), found, rtol=1e-12, atol=0)


def test_the_line_is_that_of_networks_seen_one_by_one(tickets, draw):
    found = draw("features", "--tickets", *tickets, *FEW)
    images = next(load_cifar("digits", None, "cpu", limit_test=7).test.clean_batches([(0, 7)]))[0]
    maps = [outputs_of(network(seed), images) for seed in range(3)]
    (line,) = found["ensembles"]
    assert found["images"] == 7 and found["layers"] == [*maps[0]] and len(maps[0]) == 22
    assert found["positions"] == [out.flatten(2).shape[2] for out in maps[0].values()]
    assert (found["positions"][0], found["positions"][-1]) == (1024, 1)
    for layer, kl in list(zip(found["layers"], line["kl"], strict=True))[-8:]:  # the others have 256 positions or more
        assert kl == pytest.approx(by_hand([own[layer] for own in maps]), rel=1e-4) and kl > 0


def test_the_last_layer_has_the_divergence_of_the_predictions(tickets, draw, tmp_path):
    (line,) = draw("features", "--tickets", *tickets, *FEW)["ensembles"]
    run_command(utils.evaluate.main, "--tickets", *tickets, *FEW, "--json", tmp_path / "evaluated.json")
    ensemble = json.loads((tmp_path / "evaluated.json").read_text())["ensemble"]
    assert line["kl"][-1] == pytest.approx(ensemble["kl"], rel=1e-6)


def test_layers_that_networks_share_do_not_differ(tickets, tmp_path, draw):
    """As a tree would have them: the last block and the classifier are each network's own."""
    first, second = network(0), network(1)
    own = [name for name in first if name.startswith(("stages.2.2.", "classifier"))]
    tree = tmp_path / "tickets/ticket-1.safetensors", tmp_path / "tickets/ticket-2.safetensors"
    save_ticket(tree[0], first, ABOUT)
    save_ticket(tree[1], first | {name: second[name] for name in own}, ABOUT)
    found = draw("features", "--tickets", *tree, tickets[0], tickets[0], *FEW)
    branched, equal = found["ensembles"]
    shared = [layer for layer in found["layers"] if f"{layer}.weight" not in own]
    assert len(own) > 2 and branched["kl"][: len(shared)] == [0.0] * len(shared)
    assert min(branched["kl"][len(shared) :]) > 0
    assert equal["kl"] == [0.0] * 22


def test_the_tickets_of_a_run_are_an_ensemble():
    members = [Path(f"a/member-{i}/ticket.safetensors") for i in (1, 2)]
    cycles = [Path(f"b/tickets/ticket-{i}.safetensors") for i in (1, 2, 3)]
    single = [Path(f"{run}/ticket.safetensors") for run in "cde"]
    assert ensembles([*members, *cycles]) == {Path("a"): members, Path("b"): cycles}
    assert ensembles(single) == {Path("c"): single}


def test_there_is_a_line_for_each_ensemble():
    lines = [{"name": "x", "tickets": [], "kl": [0.5, 1, 2]}, {"name": "y", "tickets": [], "kl": [0, 0, 3]}]
    found = {"images": 1, "layers": ["a", "b", "c"], "positions": [4, 2, 1], "ensembles": lines}
    mean, total = draw(found).axes
    assert [list(line.get_ydata()) for line in mean.get_lines()] == [[0.5, 1, 2], [0, 0, 3]]
    assert [list(line.get_ydata()) for line in total.get_lines()] == [[2, 2, 2], [0, 0, 3]]
    assert [label.get_text() for label in mean.get_xticklabels()] == ["a", "b", "c"]
    plt.close("all")


def test_what_is_no_ensemble_is_refused(tickets, tmp_path, refused):
    alone, members = tmp_path / "run/ticket.safetensors", tmp_path / "mimo.safetensors"
    save_ticket(alone, network(0), ABOUT)
    of = Ensemble.read("mimo 3 0.0")
    save_ticket(members, build("resnet20", 10, 0.25, ensemble=of).state_dict(), {**ABOUT, "efficient_ensemble": of})
    for words, says in {
        (tickets[0],): "features is a picture of tickets: give --tickets, 2 or more",
        (*tickets, alone): f"{alone} is the only ticket of {alone.parent}: give the others",
        (members, members): "MIMO of 3: features compares plain networks",
    }.items():
        assert says in refused("features", "--tickets", *words)
