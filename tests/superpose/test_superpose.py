"""Saved tickets superposed: as in the run that made them, at any density, with what their headers share."""

import pytest
import torch
import torchvision
from safetensors.torch import load_file, save_file

from sparselearning.averages import AVERAGES
from sparselearning.layers import maskable_weights
from tests.superpose.runs import nnz, same, total, weights
from utils.run_folder.tickets import save_ticket


@pytest.mark.parametrize("options", ["", "--superpose caa", "--superpose cima --cima-beta 0.6"])
def test_the_tickets_of_a_run_give_the_ticket_of_the_run(options, finished, superpose, no_data):
    run = finished(options.split()[1] if options else "cia")
    new = superpose("--tickets", *run.tickets, *options.split())
    assert same(new.ticket, load_file(run.ticket))
    assert new.err == "" and new.lines[-1] == f"3 of 3 tickets superposed in {new.summary['output']}"
    assert [line.split()[0] for line in new.lines[1:-1]] == [*map(str, run.tickets), "superposed"]


def test_layers_that_the_run_exempts_stay_dense(finished, superpose, no_data):
    run = finished("exempt")
    new = superpose("--tickets", *run.tickets)
    assert same(new.ticket, load_file(run.ticket)) and new.header["exempt"] == "7.weight 0.*"
    names = weights(("7.weight", "0.*"))
    assert new.summary["superposed"]["nnz"] == nnz(new.ticket, names) == round(0.3 * total(new.ticket, names))
    assert new.ticket["0.weight"].count_nonzero() == new.ticket["0.weight"].numel()


@pytest.mark.parametrize("method", AVERAGES)
@pytest.mark.parametrize("density", [0.05, 0.3, 0.777, 1])
def test_the_weights_kept_are_exactly_the_density(method, density, finished, superpose, no_data):
    tickets = [*finished("cia").tickets, finished("other").ticket]
    new = superpose("--tickets", *tickets, "--superpose", method, "--density", density)
    count = round(density * total(new.ticket, weights()))
    assert nnz(new.ticket, weights()) == new.summary["superposed"]["nnz"] == count
    assert float(new.header["density"]) == density and f"{count:,}" in new.lines[-2]


def test_the_header_says_what_the_tickets_share_and_how_they_were_superposed(finished, superpose):
    run = finished("cia")
    header = superpose("--tickets", *run.tickets, "--superpose", "cima").header
    assert header.pop("sha256") and header == {
        "data": "digits", "model": "small", "width": "1.0", "method": "rigl", "sup_tickets": "True", "seed": "0",
        "epochs": "7", "density": "0.3", "exempt": "", "limit_train": "240", "valid_fraction": "0.0",
        "image_size": "32", "mean": "0.3054 0.3054 0.3054", "std": "0.3237 0.3237 0.3237", "flip": "none",
        "superpose": "cima", "cima_beta": "0.8", "bn": "average", "greedy": "False",
        "prune_average": "every", "tickets": " ".join(map(str, run.tickets)),
    }  # fmt: skip
    mixed = superpose("--tickets", run.ticket, finished("other").ticket).header
    assert (mixed["model"], mixed["limit_train"], mixed["superpose"]) == ("small", "240", "cia")
    assert not {"seed", "epochs", "valid_fraction", "cima_beta"} & {*mixed}  # they do not share it


def test_plain_files_of_equal_tensors(tmp_path, finished, superpose, no_data):
    run = finished("cia")
    bare = [tmp_path / path.name for path in run.tickets]
    for path, ticket in zip(bare, run.tickets, strict=True):
        save_file(load_file(ticket), path)
    for options in ((), ("--model", "small")):
        new = superpose("--tickets", *bare, "--density", 0.3, *options)
        assert same(new.ticket, load_file(run.ticket))
    assert "data" not in new.header


def test_tickets_of_a_classifier_of_large_images(tmp_path, superpose, no_data):
    tickets, paths = [], [tmp_path / f"{i}.safetensors" for i in range(2)]
    for path in paths:
        model = torchvision.models.squeezenet1_1(num_classes=3)
        tickets.append(model.state_dict())
        save_ticket(path, model.state_dict(), {"data": "imagenette", "model": "squeezenet1_1", "density": 0.1})
    new = superpose("--tickets", *paths, "--prune-average", "last")  # of the plain mean
    names = list(maskable_weights(model))
    assert nnz(new.ticket, names) == round(0.1 * total(new.ticket, names))
    mean = (tickets[0]["classifier.1.weight"] + tickets[1]["classifier.1.weight"]) / 2
    kept = new.ticket["classifier.1.weight"] != 0
    assert torch.equal(new.ticket["classifier.1.weight"], mean * kept) and kept.any()
