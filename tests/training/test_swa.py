"""Averages of weights against torch's SWA (Izmailov et al. 2018), with batch norm recomputed."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.optim.swa_utils import AveragedModel

from tests.launches import commands, trained
from tests.tiny import SPARSE, SUP_TICKETS, Tiny, load_images, main

EPOCHS, BATCH = 8, 16
SWA = (*SPARSE, *SUP_TICKETS, "--model", "tiny", "--cycle-lr", "swa", "--growth", "none", "--save-tickets")


@pytest.mark.parametrize("method", ["static", "pf"])
def test_swa_is_that_of_torch_with_batch_norm_recomputed(method: str, tmp_path: Path) -> None:
    assert main(tmp_path, *SWA, "--method", method, "--bn", "recompute")[0] == 0
    found = load_file(tmp_path / "ticket.safetensors")
    model, swa = Tiny(10), AveragedModel(Tiny(10))
    tickets = [load_file(tmp_path / f"tickets/ticket-{i}.safetensors") for i in (1, 2)]
    for ticket in tickets:
        model.load_state_dict(ticket)
        swa.update_parameters(model)
    expected = dict(swa.module.named_parameters())
    for name, parameter in expected.items():
        torch.testing.assert_close(found[name], parameter.data)

    # the batches of the epoch that would come next, a rest left out; what batch norm sees is what the first layer makes
    order = load_images("", None, "cpu").train.epoch(0, EPOCHS)
    batches = list(order.batches((start, start + BATCH) for start in (0, BATCH)))
    seen = [swa.module[0](images).transpose(0, 1).flatten(1) for images, _ in batches]
    mean, variance = (torch.stack([f(x) for x in seen]).mean(0) for f in (lambda x: x.mean(1), lambda x: x.var(1)))
    torch.testing.assert_close(found["1.running_mean"], mean)
    torch.testing.assert_close(found["1.running_var"], variance)
    average = torch.stack([ticket["1.running_var"] for ticket in tickets]).mean(0)
    assert not torch.allclose(average, variance, rtol=1e-3)


@pytest.mark.parametrize("method", ["static", "pf"])
def test_an_average_over_one_mask_loses_no_connection(method: str, tmp_path: Path) -> None:
    assert main(tmp_path, *SWA, "--method", method, "--bn", "recompute")[0] == 0
    first, second, superposed = (
        load_file(tmp_path / name) for name in ("tickets/ticket-1.safetensors", "tickets/ticket-2.safetensors",
                                                "ticket.safetensors")
    )  # fmt: skip
    for name in json.loads((tmp_path / "summary.json").read_text())["nnz_per_layer"]:
        assert torch.equal(superposed[name] != 0, first[name] != 0) and torch.equal(first[name] != 0, second[name] != 0)


def test_table_21_recomputes_batch_norm_where_it_is_swa_only() -> None:
    runs = trained(commands("sup_table21_swa.sh", "--seeds", "0"))
    kinds = {(args.method, args.cycle_lr, args.growth, args.bn) for args in runs}
    assert kinds == {("pf", "swa", "none", "recompute"), ("static", "swa", "none", "recompute"),
                     ("rigl", "triangle", None, "average")}  # fmt: skip
    assert len(runs) == 9
