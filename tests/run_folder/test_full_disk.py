"""A disk that is full, or became read-only, is one clear line; what was saved before stays."""

import errno
import resource
from pathlib import Path
from unittest import mock

import pytest

from tests.outcomes import assert_one_line, differences, last_state, outcome
from tests.processes import finish, start
from tests.tiny import SPARSE, SUP_TICKETS, main

RUN = (*SPARSE, *SUP_TICKETS, "--model", "tiny")


@pytest.mark.parametrize("size", [20_000, 100], ids="{} bytes".format)
def test_a_full_disk_is_one_clear_line(size, straight, tmp_path):
    options = (*RUN, "--method", "rigl")
    main(tmp_path, *options, stop=7)
    before, log = last_state(tmp_path), tmp_path / "log"
    assert finish([start(on_full_disk, tmp_path, size, log, *options, "--resume", "auto")]) == [2]
    assert_one_line(log.read_text(), "File too large")
    assert differences(before, last_state(tmp_path)) == []
    assert main(tmp_path, *options, "--resume", "auto")[0] == 0
    assert differences(straight(*options), outcome(tmp_path)) == []


def on_full_disk(folder: Path, size: int, log: Path, *options: str) -> tuple[int, str, str]:
    """No file can grow beyond `size`, as on a disk that is nearly full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        status, out, err = main(folder, *options)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    log.write_text(err)
    return status, out, err


@pytest.mark.parametrize("files", ["utils.run_folder.checkpoints.torch.save", "utils.reporting.tracking.write_whole",
                                   "utils.training.run.save_ticket",
                                   "utils.reporting.summary.write_json"])  # fmt: skip
def test_a_folder_that_became_read_only_is_one_clear_line(files, straight, tmp_path):
    options = (*RUN, "--method", "rigl")
    main(tmp_path, *options, stop=7)
    with mock.patch(files, side_effect=OSError(errno.EROFS, "Read-only file system")):
        status, _, err = main(tmp_path, *options, "--resume", "auto")
    assert status == 2
    assert_one_line(err, "Read-only file system")
    assert main(tmp_path, *options, "--resume", "auto")[0] == 0
    assert differences(straight(*options), outcome(tmp_path)) == []
