"""Runs of main_imagenet.py on a stream: cut inside an epoch, and on two processes."""

import json
import os
from pathlib import Path
from unittest import mock

import pytest

import utils.training.interruption
from tests.outcomes import differences, outcome
from tests.processes import launch
from tests.tiny_imagenet import SUP, main

pytestmark = pytest.mark.usefixtures("narrow")

RUN = (*SUP, "--streaming", "--epochs", "2", "--cycle-epochs", "1", "--num-tickets", "1", "--update-frequency", "2",
       "--limit-train", "60")  # 4 steps each  # fmt: skip


def test_a_run_that_is_cut_inside_an_epoch_ends_with_the_same_bits(folders: dict[int, Path], tmp_path: Path) -> None:
    straight, cut = ((*RUN, "--workers", "1", "--output-dir", str(tmp_path / name)) for name in ("straight", "cut"))
    assert main(folders[3], *straight)[::2] == (0, "")
    resume = (*cut, "--resume", "auto")
    assert main(folders[3], *resume, stop=6)[0] == 143
    status, _, err = main(folders[3], *resume, "--batch-size", "8", "--gradient-accumulation-steps", "2")
    assert status == 2 and "from a run with batch_size 16, not 8" in err and err.count("\n") == 1
    assert main(folders[3], *resume)[0] == 0
    assert differences(outcome(tmp_path / "straight"), outcome(tmp_path / "cut")) == []


def run_both(folder: Path, place: Path) -> None:
    """Cut a run on both processes, go on, and run to the end at once."""
    for name, stop in (("cut", 3), ("cut", None), ("straight", None)):
        options = (*RUN, "--batch-size", "8", "--workers", "0", "--output-dir", str(place / name), "--resume", "auto")
        with mock.patch.object(utils.training.interruption, "POLL_STEPS", 1):
            status, _, err = main(folder, *options, stop=stop)
        rank = os.environ["RANK"]
        (place / f"{name}-{stop}.{rank}.json").write_text(json.dumps([status, err]))


def test_two_processes_stream_to_the_same_end(folders: dict[int, Path], tmp_path: Path) -> None:
    assert launch(2, run_both, folders[1], tmp_path, timeout=300) == [0, 0]
    for name, status in (("cut-3", 143), ("cut-None", 0), ("straight-None", 0)):
        results = [json.loads((tmp_path / f"{name}.{rank}.json").read_text()) for rank in range(2)]
        assert results == [[status, ""]] * 2
    assert differences(outcome(tmp_path / "straight"), outcome(tmp_path / "cut")) == []
