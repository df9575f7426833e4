"""One process or many, whole batches or parts of them: the same masks and metrics."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.outcomes import differences
from tests.processes import launch
from tests.tiny import METHODS, SPARSE
from tests.training.distributed import PARTS, Case, run_all, updates_of

WHOLE = {  # ways to train on whole batches of 16: processes, images per part, parts per process
    "1 process": (1, 16, 1),
    "accumulation": (1, 8, 2),
    "2 processes": (2, 8, 1),
    "both": (2, 4, 2),
}
GROWING = ("set", "rigl", "granet")


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs named NETWORK-METHOD-WAY for each way to train on the same batches."""
    folder = tmp_path_factory.mktemp("parts")
    for world in (1, 2):
        cases = [
            Case(folder / f"{network}-{method}-{way}", (*SPARSE, *PARTS, *METHODS[method], "--model", network,
                 "--batch-size", str(size), "--gradient-accumulation-steps", str(parts)))
            for way, (processes, size, parts) in WHOLE.items() if processes == world
            for network, methods in (("exact", GROWING), ("norm", GROWING), ("plain", ("rigl",))) for method in methods
        ]  # fmt: skip
        assert launch(world, run_all, cases) == [0] * world
    return folder


@pytest.mark.parametrize("method", GROWING)
@pytest.mark.parametrize("way", [way for way in WHOLE if way != "1 process"])
def test_the_same_masks_at_every_update(way, method, parts):
    """In double precision, where the rounding of differently grouped sums cannot change the order of two scores."""
    whole, cut = parts / f"exact-{method}-1 process", parts / f"exact-{method}-{way}"
    assert len(updates_of(whole)) == 4 + 2
    for rank in range(WHOLE[way][0]):
        assert differences(updates_of(whole), updates_of(cut, rank)) == []
    for name, weight in load_file(whole / "ticket.safetensors").items():
        torch.testing.assert_close(load_file(cut / "ticket.safetensors")[name], weight, rtol=1e-9, atol=1e-12)
    expected, found = (json.loads((folder / "summary.json").read_text()) for folder in (whole, cut))
    assert found["nnz_per_layer"] == expected["nnz_per_layer"]
    assert found["flops"] == pytest.approx(expected["flops"], rel=1e-12)
    assert found["test"]["superposed"] == pytest.approx(expected["test"]["superposed"], rel=1e-6)


@pytest.mark.parametrize("way", [way for way in WHOLE if way != "1 process"])
def test_in_single_precision_masks_differ_at_most_where_scores_tie(way, parts):
    whole, cut = updates_of(parts / "plain-rigl-1 process"), updates_of(parts / f"plain-rigl-{way}")
    assert differences(whole[0], cut[0]) == []
    for one, other in zip(whole, cut, strict=True):
        assert sum((one[name] != other[name]).sum().item() for name in one if name != "step") <= 4


@pytest.mark.parametrize("method", GROWING)
@pytest.mark.parametrize("way", [way for way in WHOLE if way != "1 process"])
def test_with_batch_norm_the_same_counts_at_every_update(way, method, parts):
    """Batch norm sees its part of a batch only: another network, but the same number of connections."""
    whole, cut = updates_of(parts / f"norm-{method}-1 process"), updates_of(parts / f"norm-{method}-{way}")
    for one, other in zip(whole, cut, strict=True):
        assert one["step"] == other["step"]
        assert sum(one[name].sum() for name in one if name != "step") == sum(
            other[name].sum() for name in one if name != "step"
        )
    for rank in range(WHOLE[way][0]):
        assert differences(cut, updates_of(parts / f"norm-{method}-{way}", rank)) == []
