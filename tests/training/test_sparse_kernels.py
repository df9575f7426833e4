"""Runs of main_cifar.py with --sparse-kernels."""

import importlib.util
import signal

import pytest
import yaml

pytest.importorskip("numba")

from sparselearning.cpu import trained
from tests.outcomes import assert_one_line, differences, outcome
from tests.tiny import METHODS, SPARSE, SUP_TICKETS, main

RUN = (*SPARSE, *SUP_TICKETS, "--model", "norm")


@pytest.fixture
def passes(monkeypatch):
    """The sizes of the images that sparse kernels were used on."""
    seen = []
    original = trained.Passes.forward

    def counted(self, x, weight, bias):
        seen.append(tuple(x.shape))
        return original(self, x, weight, bias)

    monkeypatch.setattr(trained.Passes, "forward", counted)
    return seen


def test_a_run_that_is_cut_ends_in_the_same_bits(tmp_path, passes):
    straight, cut = tmp_path / "straight", tmp_path / "cut"
    run = (*RUN, *METHODS["granet"], "--sparse-kernels")
    assert main(straight, *run)[0] == 0
    assert main(cut, *run, stop=7)[0] == 128 + signal.SIGTERM
    assert main(cut, *run, "--resume", "auto")[0] == 0
    assert differences(outcome(straight), outcome(cut)) == []
    assert yaml.safe_load((straight / "args.yaml").read_text())["sparse_kernels"] is True
    assert {(16, 8, 8, 8), (12, 8, 8, 8)} <= {*passes}  # whole batches, and the last one of an epoch


def test_a_run_trains_as_without_them(tmp_path, passes):
    sparse, dense = tmp_path / "sparse", tmp_path / "dense"
    assert main(sparse, *RUN, *METHODS["rigl"], "--sparse-kernels")[0] == 0
    used = len(passes)
    assert main(dense, *RUN, *METHODS["rigl"])[0] == 0
    assert used > 0 and len(passes) == used
    losses = [[float(row["loss"]) for row in outcome(folder)["metrics.csv"]] for folder in (sparse, dense)]
    assert losses[0] == pytest.approx(losses[1], rel=0.01)


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (("--compile",), ("--sparse-kernels", "--compile")),
        (("--mixed-precision", "bf16"), ("--sparse-kernels", "--mixed-precision no")),
    ],
)
def test_what_they_do_not_go_with_is_refused(options, parts, tmp_path):
    status, _, err = main(tmp_path / "run", *RUN, "--sparse-kernels", *options)
    assert status == 2 and not (tmp_path / "run").exists()
    assert_one_line(err, *parts)


def test_without_numba_they_are_refused(tmp_path, monkeypatch):
    original = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == "numba" else original(name, *more)
    )
    status, _, err = main(tmp_path / "run", *RUN, "--sparse-kernels")
    assert status == 2 and not (tmp_path / "run").exists()
    assert_one_line(err, "numba", "pip install")
