"""Efficient ensembles together with what other runs can do: several processes, other runs' tickets, sparse kernels."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import utils.pack
from sparselearning.tickets import read
from tests.commands import run_command
from tests.outcomes import differences, outcome
from tests.processes import launch
from tests.tiny import SPARSE, main
from tests.training.distributed import CYCLES, Case, run_all, statuses

KINDS = ("mc-dropout", "batchensemble", "mimo", "treenet")
RUN = (*SPARSE, *CYCLES, "--save-tickets", "--resume", "auto")
ALIKE = ("mc-dropout", "batchensemble", "treenet")  # draw nothing in training, without dropout; MIMO deals at random


def of(kind: str, *others: str) -> tuple[str, ...]:
    return "--efficient-ensemble", kind, "--members", "2", *others


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of 2 processes: KIND; KIND-cut, that was cut and went on; and KIND-exact in double precision."""
    folder = tmp_path_factory.mktemp("pairs")
    half = (*RUN, "--batch-size", "8", "--model")
    cases = [Case(folder / kind, (*half, "norm", *of(kind))) for kind in KINDS]
    cases += [Case(folder / f"{kind}-cut", (*half, "norm", *of(kind)), 7, i % 2) for i, kind in enumerate(KINDS)]
    cases += [Case(case.folder, case.options) for case in cases[len(KINDS) :]]
    cases += [Case(folder / f"{kind}-exact", (*half, "exact", *exactly(kind))) for kind in ALIKE]
    assert launch(2, run_all, cases) == [0, 0]
    assert all(statuses(case.folder, 2) == [0, 0] for case in cases)
    return folder


def exactly(kind: str) -> tuple[str, ...]:
    return of(kind, *("--dropout", "0") if kind == "mc-dropout" else ())


@pytest.mark.parametrize("kind", KINDS)
def test_two_processes_resume_to_the_same_bits(kind: str, pairs: Path) -> None:
    assert differences(outcome(pairs / kind), outcome(pairs / f"{kind}-cut")) == []


@pytest.mark.parametrize("kind", ALIKE)
def test_two_processes_are_one_with_the_whole_batch(kind: str, pairs: Path, tmp_path: Path) -> None:
    """In double precision, where the order of a sum does not show."""
    assert main(tmp_path / "one", *RUN, "--model", "exact", *exactly(kind))[0] == 0
    one, two = (load_file(run / "ticket.safetensors") for run in (tmp_path / "one", pairs / f"{kind}-exact"))
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_another_run_goes_on_from_it_and_learns_from_it(kind: str, tmp_path: Path) -> None:
    first, again, taught = (tmp_path / name for name in ("first", "again", "taught"))
    run = (*RUN, "--model", "norm", *of(kind))
    assert main(first, *run)[0] == 0
    assert main(again, *run, "--start-from", str(first))[0] == 0
    found, expected = outcome(again), outcome(first)
    found["summary.json"].pop("start_from")
    assert differences(found, expected) == []
    tickets = sorted(map(str, first.glob("tickets/*")))
    words = (*SPARSE, "--model", "norm", "--epochs", "2", *of(kind), "--seed", "1")
    assert main(taught, *words, "--distill", *tickets)[0] == 0
    said = json.loads((taught / "summary.json").read_text())
    assert said["nnz"] == round(0.2 * said["maskable"])


@pytest.mark.parametrize("kind", KINDS)
def test_only_a_network_of_its_kind_learns_from_it(kind: str, tmp_path: Path) -> None:
    words = (*SPARSE, "--model", "norm", "--epochs", "1")
    assert main(tmp_path / "plain", *words)[0] == 0
    status, _, err = main(tmp_path / "run", *words, *of(kind), "--distill", str(tmp_path / "plain/ticket.safetensors"))
    assert status == 2 and "belongs to another model" in err and err.count("\n") == 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_packed_ticket_is_the_ticket(kind: str, tmp_path: Path) -> None:
    assert main(tmp_path / "run", *SPARSE, "--model", "norm", "--epochs", "1", *of(kind))[0] == 0
    ticket = tmp_path / "run/ticket.safetensors"
    run_command(utils.pack.main, ticket)
    (tensors, header), (packed, said) = read(ticket), read(tmp_path / "run/ticket.packed.safetensors")
    assert differences(packed, tensors) == [] and said["efficient_ensemble"] == header["efficient_ensemble"]


@pytest.mark.parametrize("kind", KINDS)
def test_sparse_kernels_compute_the_same(kind: str, tmp_path: Path) -> None:
    pytest.importorskip("numba")
    losses = []
    for kernels in ((), ("--sparse-kernels",)):
        run = tmp_path / f"run{len(kernels)}"
        assert main(run, *SPARSE, "--model", "norm", "--epochs", "2", *of(kind), *kernels)[0] == 0
        losses.append([float(row["loss"]) for row in outcome(run)["metrics.csv"]])
    assert losses[0] == pytest.approx(losses[1], rel=0.01)
