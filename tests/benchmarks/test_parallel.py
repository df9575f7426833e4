"""Processes side by side: what they report together, and what becomes of the table where some fail."""

import os
from dataclasses import replace
from multiprocessing import Pipe
from types import SimpleNamespace

from utils.benchmarks import parallel as module
from utils.benchmarks.parallel import Rates, Worker, _together, parallel, table
from utils.command_line.commands.benchmark import BenchmarkOptions
from utils.command_line.parser import parse

TINY = ("parallel", "--model", "resnet20", "--batch-size", "4", "--seconds", "1", "--compile")


def stand_in(rate: float | None) -> Worker:
    """A worker whose process answers every order to train at once; or is gone."""
    worker, (worker_end, process_end) = Worker.__new__(Worker), Pipe()
    worker.pipe, worker.errors = worker_end, {}
    worker.process = SimpleNamespace(end=process_end, kill=lambda: None)  # type: ignore[assignment]
    if rate is None:
        process_end.close()
    else:
        process_end.send(("", rate))
    return worker


def test_processes_train_side_by_side_and_one_that_cannot_compile_says_so(monkeypatch, tmp_path):
    monkeypatch.setenv("CXX", "false")
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    monkeypatch.setitem(module.COUNTS, "cpu", (1, 2) if (os.cpu_count() or 1) > 1 else (1,))
    rates = parallel(replace(parse(BenchmarkOptions, "", TINY), device="cpu"))
    assert rates.keys() == {"plain", "compiled"} and rates["plain"].keys() == rates["compiled"].keys()
    assert all(isinstance(rate, float) and rate > 0 for rate in rates["plain"].values())
    assert all(isinstance(why, str) and "compil" in why.lower() for why in rates["compiled"].values())


def test_the_rates_of_the_first_processes_add_up():
    workers = [stand_in(rate) for rate in (10.0, 20.0, 40.0)]
    assert _together(workers, "plain", 2, 0) == 30.0
    assert workers[2].pipe.poll(), "the third was not asked"


def test_a_process_that_is_gone_leaves_the_smaller_numbers():
    workers = [stand_in(10.0), stand_in(None), stand_in(40.0)]
    assert _together(workers, "plain", 3, 0) == "the process ended"
    assert workers[1].errors.keys() == {"plain", "compiled"}
    workers = [stand_in(10.0), workers[1], stand_in(40.0)]
    assert _together(workers, "plain", 2, 0) == 50.0
    assert _together(workers, "plain", 3, 0) == "the process ended"


def test_the_table_has_a_line_for_each_number():
    compiled = {"1": 3000.0, "2": "OutOfMemoryError: of 80 GiB"}
    rates: Rates = {"plain": {"1": 1234.5, "2": 2000.0}, "compiled": compiled}
    lines = table(rates).splitlines()
    assert [line.split()[0] for line in lines] == ["processes", "1", "2"]
    assert lines[1].split()[1:] == ["1,234", "3,000"] and lines[2].endswith("OutOfMemoryError: of 80 GiB")
