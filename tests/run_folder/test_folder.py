"""Who may write into a run folder, what --overwrite takes away, and what is recorded before the first step."""

import json
from pathlib import Path

import pytest
import yaml

from sparselearning.errors import UsageError
from tests.run_folder.folders import EVENT_FILE, OWN, contents, fill, options
from utils.command_line.options import CifarOptions, effective
from utils.command_line.parser import parse
from utils.run_folder.folder import RunFolder, default_name


def test_the_name_tells_runs_apart():
    sparse = {"sparse": True, "method": "granet"}
    runs = [{}, sparse, {**sparse, "sup_tickets": True}, {**sparse, "density": 0.1}, {"seed": 1}, {"model": "resnet50"}]
    names = [default_name(options(**run)) for run in runs]
    assert names[2] == "cifar10-vgg16-granet-d0.05-sup-seed0" and len(set(names)) == len(names)
    assert all(Path(name).name == name for name in names)


def test_the_folder_is_under_runs_unless_it_is_given(tmp_path):
    assert RunFolder(options()).path == Path("runs") / default_name(options())
    assert RunFolder(options(output_dir=str(tmp_path / "x"))).path == tmp_path / "x"


@pytest.mark.parametrize("name", OWN)
def test_a_folder_in_use_is_refused_and_left_alone(name, folder):
    fill(folder, (name, "args.yaml"))
    before = contents(folder)
    args = options(output_dir=str(folder))
    with pytest.raises(UsageError, match="--overwrite") as refusal:
        RunFolder(args).check()
    assert ("--resume auto" in str(refusal.value)) == (name != "summary.json")
    assert contents(folder) == before


def test_a_folder_without_a_run_may_be_used(folder):
    for path in (folder, folder / "deeper" / "new"):
        args = options(output_dir=str(path))
        RunFolder(args).check()
        RunFolder(args).claim()
        assert (path / "args.yaml").exists()
    assert (folder / "notes" / "todo.txt").read_text() == "keep me"


def test_overwrite_removes_the_old_run_and_nothing_else(folder):
    fill(folder, (*OWN, EVENT_FILE))
    args = options(output_dir=str(folder), overwrite=True)
    RunFolder(args).check()
    assert (folder / "summary.json").exists()  # not before the run is known to be possible
    RunFolder(args).claim()
    assert sorted(contents(folder)) == ["args.yaml", "env.json", "notes/todo.txt"]
    assert "old" not in contents(folder).values()


def test_resume_goes_before_overwrite(folder):
    fill(folder, ("args.yaml", "checkpoints", "metrics.csv"))
    args = options(output_dir=str(folder), overwrite=True, resume="auto")
    RunFolder(args).check()
    RunFolder(args).claim()
    assert (folder / "checkpoints" / "old").exists() and (folder / "metrics.csv").exists()


def test_a_finished_run_is_done_only_if_it_is_the_one_asked_for(folder):
    args = options(output_dir=str(folder), sparse=True, density=0.1, resume="auto")
    RunFolder(args).claim()
    assert not RunFolder(args).finished
    fill(folder, ("summary.json",))
    assert RunFolder(args).finished
    RunFolder(args).check()
    other = options(output_dir=str(folder), sparse=True, density=0.2, resume="auto")
    with pytest.raises(UsageError, match=r"density 0\.1, not 0\.2"):
        RunFolder(other).check()


def test_what_is_recorded_makes_the_same_run_as_a_config(folder):
    words = ["--sparse", "--density", "0.1", "--exempt", "classifier.*"]
    RunFolder(parse(CifarOptions, "", ["--output-dir", str(folder), *words])).claim()
    recorded = yaml.safe_load((folder / "args.yaml").read_text())
    assert recorded["density"] == 0.1 and recorded["exempt"] == ["classifier.*"]
    assert not {"cycle_epochs", "init_density", "cima_beta", "data_dir", "resume"} & set(recorded)  # they did nothing
    again = parse(CifarOptions, "", ["--config", str(folder / "args.yaml")])
    assert effective(again) == recorded


def test_the_environment_is_recorded(folder):
    args = options(output_dir=str(folder))
    RunFolder(args).claim()
    env = json.loads((folder / "env.json").read_text())
    assert {"command", "python", "torch", "device", "processes", "threads", "commit"} <= set(env)


def test_a_file_in_the_way(tmp_path):
    (tmp_path / "file").write_text("mine")
    args = options(output_dir=str(tmp_path / "file"))
    with pytest.raises(UsageError, match="--output-dir"):
        RunFolder(args).check()
    args = options(output_dir=str(tmp_path / "file" / "run"))
    RunFolder(args).check()
    with pytest.raises(UsageError, match="cannot write"):
        RunFolder(args).claim()
    assert (tmp_path / "file").read_text() == "mine"
