"""A run folder has an owner: nothing but a run is replaced or continued, and no two are at work in it."""

import contextlib
import io
import os
import time
from pathlib import Path
from unittest import mock

import pytest

from sparselearning.errors import UsageError
from tests.commands import run_command
from tests.outcomes import last_state
from tests.processes import start
from tests.run_folder.folders import OWN, contents, fill, options
from tests.tiny import SPARSE, SUP_TICKETS, main
from utils import evaluate, report, superpose
from utils.command_line.paths import FILES
from utils.files.locks import release
from utils.run_folder.folder import RunFolder

LONG = (*SPARSE, "--model", "tiny", "--epochs", "200")


@pytest.mark.parametrize("options_of", ["none", "", "- a", "just words", "task: detect\nmodel: yolo\n", "a: ["])
@pytest.mark.parametrize("choice", [{"overwrite": True}, {"resume": "auto"}, {}], ids=str)
def test_nothing_is_replaced_but_a_run(options_of, choice, folder):
    """Somebody else's folders may have such names, and an args.yaml of their own."""
    fill(folder, ("checkpoints", "tickets", "metrics.csv"))
    if options_of != "none":
        (folder / "args.yaml").write_text(options_of)
    before = contents(folder)
    with pytest.raises(UsageError, match="another --output-dir") as refusal:
        RunFolder(options(output_dir=str(folder), **choice)).check()
    assert "\n" not in str(refusal.value) and contents(folder) == before


@pytest.mark.parametrize("name", OWN)
@pytest.mark.parametrize("kind", ["other", "dangling"])
@pytest.mark.parametrize("choice", [{"overwrite": True}, {"resume": "auto"}, {}], ids=str)
def test_a_part_of_another_kind_is_refused_before_training(name, kind, choice, folder):
    fill(folder, ("args.yaml",))
    (folder / name).unlink(missing_ok=True)
    if kind == "dangling":
        (folder / name).symlink_to(folder / "nowhere")
    elif name in FILES:
        (folder / name).mkdir()
    else:
        (folder / name).write_text("mine")
    with pytest.raises(UsageError, match=f"{name} is no (file|folder), as a run has it"):
        RunFolder(options(output_dir=str(folder), **choice)).check()
    assert os.path.lexists(folder / name)


def test_what_a_link_leads_to_is_not_the_runs_to_remove(folder, tmp_path):
    fill(folder, ("args.yaml",))
    (tmp_path / "scratch").mkdir()
    (tmp_path / "scratch" / "file").write_text("keep me")
    (folder / "checkpoints").symlink_to(tmp_path / "scratch")
    RunFolder(options(output_dir=str(folder), overwrite=True)).claim()
    assert not os.path.lexists(folder / "checkpoints") and (tmp_path / "scratch" / "file").exists()


def test_a_run_in_progress_is_not_continued_as_another(folder):
    RunFolder(options(output_dir=str(folder), epochs=3)).claim()
    (folder / "metrics.csv").write_text("old")
    before = contents(folder)
    with pytest.raises(UsageError, match="epochs 3, not 4"):
        RunFolder(options(output_dir=str(folder), epochs=4, resume="elsewhere/checkpoints/step-00000001")).check()
    assert contents(folder) == before


def test_a_smaller_ensemble_keeps_no_member_of_a_larger_one(folder):
    large = RunFolder(options(output_dir=str(folder), ensemble=3))
    for part in (large, *large.members()):
        part.claim()
    (folder / "member-of-the-board").mkdir()
    small = RunFolder(options(output_dir=str(folder), ensemble=2, overwrite=True))
    for part in (*small.members(), small):
        part.claim()
    assert {path.name for path in folder.glob("member-*")} == {"member-1", "member-2", "member-of-the-board"}


@pytest.mark.parametrize("error", [OSError("an odd reason"), OSError(28, "an odd reason")], ids=repr)
def test_the_reason_is_named_where_a_folder_cannot_be_written(error, folder):
    unwritable = mock.patch("utils.run_folder.folder.write_whole", side_effect=error)
    with unwritable, pytest.raises(UsageError, match="an odd reason"):
        RunFolder(options(output_dir=str(folder))).claim()


# ---- two at a time --------------------------------------------------------------------------------------------------


def claim(folder: Path, overwrite: bool, held: Path) -> tuple[int, str, str]:
    """In another process: make the folder its own and stay there."""
    RunFolder(options(output_dir=str(folder), overwrite=overwrite)).claim()
    held.touch()
    time.sleep(60)
    return 0, "", ""


@pytest.fixture
def owner(folder, tmp_path):
    """Another process that is at work in the folder."""
    process = start(claim, folder, False, tmp_path / "held")
    while not (tmp_path / "held").exists():
        time.sleep(0.01)
    yield process
    process.kill()
    process.join()


@pytest.mark.parametrize("choice", [{"overwrite": True}, {"resume": "auto"}, {}], ids=str)
def test_a_folder_at_work_in_is_refused_until_that_process_is_gone(choice, owner, folder):
    args, before = options(output_dir=str(folder), **choice), contents(folder)
    for action in (RunFolder.check, RunFolder.claim):
        with pytest.raises(UsageError, match="another process is at work in"):
            action(RunFolder(args))
    assert contents(folder) == before
    owner.kill()  # leaves no lock behind
    owner.join()
    if choice:
        RunFolder(args).check()
        RunFolder(args).claim()


def test_of_two_that_start_at_once_one_is_refused(folder):
    """Both have found the folder free. The second comes to write when the first is done."""
    second = RunFolder(options(output_dir=str(folder), seed=1))
    second.check()
    RunFolder(options(output_dir=str(folder))).claim()
    fill(folder, ("summary.json",))
    release()
    before = contents(folder)
    with pytest.raises(UsageError, match="holds a finished run"):
        second.claim()
    assert contents(folder) == before


@pytest.mark.parametrize("choice", [("--overwrite",), ("--resume", "auto"), ()], ids=str)
def test_two_runs_at_once_in_one_folder(choice, tmp_path):
    """The second is refused and changes nothing; the first ends as if it had been alone."""
    running = start(main, tmp_path / "run", *LONG, "--checkpoint-minutes", "1e-9")
    while not list(tmp_path.glob("run/checkpoints/step-????????")):
        time.sleep(0.01)
    status, out, err = main(tmp_path / "run", *LONG, *choice)
    assert (status, out) == (2, "")
    assert err.count("\n") == 1 and "another process is at work in" in err
    assert running.is_alive()
    running.kill()
    running.join()
    next_step = last_state(tmp_path / "run")["step"] + 1
    assert main(tmp_path / "run", *LONG, "--resume", "auto", stop=next_step)[0] == 143


# ---- reports ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def finished(folder):
    """A finished run, and a report beside it."""
    assert main(folder, *SPARSE, *SUP_TICKETS, "--model", "tiny", "--save-tickets")[0] == 0
    (folder / "learning_curve.png").touch()  # tiny runs draw none
    (folder.parent / "report.json").write_text("{}")
    return folder


@pytest.mark.parametrize(
    "name",
    ["summary.json", "ticket.safetensors", "metrics.csv", "learning_curve.png", "args.yaml", "checkpoints",
     "tickets/ticket-1.safetensors", "nowhere/report.json"],
)  # fmt: skip
@pytest.mark.parametrize("flag", ["--json", "--csv", "--plot"])
def test_a_report_replaces_nothing_of_a_run(flag, name, finished, capsys):
    before = {path: path.read_bytes() for path in finished.rglob("*") if path.is_file()}
    for command, words in ((report, [finished]), (evaluate, ["--tickets", finished / "ticket.safetensors"])):
        if command is report or flag == "--json":
            assert refused(command, *words, flag, finished / name)
    assert {path: path.read_bytes() for path in finished.rglob("*") if path.is_file()} == before


def test_a_superposition_replaces_nothing_of_a_run(finished):
    tickets = sorted(finished.glob("tickets/*"))
    for name in ("summary.json", "ticket.safetensors", "metrics.csv"):
        assert "not to be replaced" in refused(
            superpose, "--tickets", *tickets, "--overwrite", "--output", finished / name
        )
    json = ("--json", tickets[1])
    assert "another file of this command" in refused(superpose, "--tickets", *tickets, *json)


def test_a_report_may_be_replaced(finished, capsys):
    target = finished.parent / "report.json"
    run_command(report.main, finished, "--json", target)
    assert target.read_text() != "{}"
    assert "another file of this command" in refused(report, finished, "--json", target, "--csv", target)


def refused(command, *words):
    """The one line on stderr."""
    with contextlib.redirect_stderr(io.StringIO()) as err, pytest.raises(SystemExit) as stop:
        run_command(command.main, *words)
    assert stop.value.code == 2 and err.getvalue().count("\n") == 1
    return err.getvalue()
