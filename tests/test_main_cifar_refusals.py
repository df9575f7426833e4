"""What main_cifar.py says before and after a run, and the mistakes that end in one line and status 2."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

import main_cifar
from tests.outcomes import contents
from tests.scripts import end_of
from tests.tiny import restored

DATA = "--data digits --model resnet20 --limit-train 16 --limit-test 20 --batch-size 8"
SPARSE = f"{DATA} --epochs 5 --sparse --density 0.1"  # 2 steps per epoch
DENSE = f"{DATA} --epochs 2"


@pytest.fixture(scope="module", autouse=True)
def as_it_was():
    with restored():
        yield


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty working directory, into which a run without --output-dir would write."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def refused(here):
    """Call it with a command line that is wrong: returns the one line on stderr."""

    def refuse(*words: str) -> str:
        before = contents(here)
        status, _, err = end_of(main_cifar, *words)
        assert status == 2, err
        assert err.endswith("\n") and err.count("\n") == 1 and err.startswith("main_cifar.py: ")
        assert contents(here) == before  # nothing written
        return err

    return refuse


def test_a_dry_run_prints_the_plan_and_writes_nothing(here):
    words = f"{SPARSE} --method granet --sup-tickets --cycle-epochs 1 --num-tickets 2 --dry-run"
    status, out, _ = end_of(main_cifar, *words.split())
    assert status == 0
    for word in ("GraNet", "cycle 2", "ends in a ticket", "GFLOPs", "stages.2.2.conv2.weight", "maskable weights"):
        assert word in out
    assert contents(here) == {}


def test_a_finished_run_is_not_trained_again(here):
    command = [*DENSE.split(), "--output-dir", "run"]
    assert end_of(main_cifar, *command)[0] == 0
    before = contents(here)
    status, out, _ = end_of(main_cifar, *command, "--resume", "auto")
    assert status == 0 and "nothing to resume" in out and contents(here) == before


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (f"{SPARSE} --denisty 0.2", "--denisty"),
        (f"{DATA} --sparse --density 0", "(0, 1]"),
        (f"{DATA} --sparse --density 1.5", "(0, 1]"),
        (f"{DATA} --density 0.1", "--sparse"),
        (f"{SPARSE} --superpose caa", "--sup-tickets"),
        (f"{SPARSE} --method lottery", "--method"),
        ("--data digits --model lenet", "vgg16"),
        ("--data mnist", "cifar10"),
        ("--data digits --data-dir .", "--data-dir"),
        ("--data digits --limit-test 0", "--limit-test 0 is not a positive number"),
        ("--data cifar10 --data-dir nowhere", "nowhere"),
        (f"{DENSE} --resume nowhere", "nowhere"),
        (f"{DENSE} --limit-train 1", "--batch-size"),
    ],
)
def test_a_wrong_command_line(words, says, refused):
    assert says in refused(*words.split())


def test_a_wrong_config(here, refused):
    (here / "config.yaml").write_text("data: digits\ndenisty: 0.1\n")
    assert "did you mean density" in refused("--config", "config.yaml")


@pytest.mark.parametrize("words", ["--epochs 20", "--epochs 50 --ticket-fraction 0.1", "--epochs 20 --cycle-epochs 5"])
def test_cycles_that_do_not_fit_and_what_would(words, refused):
    command = [*SPARSE.split(), "--sup-tickets", *words.split()]
    line = refused(*command)
    remedies = r"cycle_epochs (\d+) or less, ticket_fraction ([\d.]+), (\d+) epochs or more"
    cycle, fraction, epochs = re.search(remedies, line).groups()
    for remedy in (["--cycle-epochs", cycle], ["--ticket-fraction", fraction], ["--epochs", epochs]):
        status, out, _ = end_of(main_cifar, *command, *remedy, "--dry-run")
        assert status == 0 and "ends in a ticket" in out


def test_tickets_that_do_not_fit_and_what_would(refused):
    command = [*SPARSE.split(), "--epochs", "20", "--sup-tickets"]
    line = refused(*command, "--num-tickets", "3")
    (most,) = re.search(r"room for 1 to (\d+) tickets", line).groups()
    status, out, _ = end_of(main_cifar, *command, "--num-tickets", most, "--dry-run")
    assert status == 0 and f"cycle {most} " in out
    assert f"room for 1 to {most}" in refused(*command, "--num-tickets", str(int(most) + 1))
    assert "--num-tickets 0 is not a positive number" in refused(*command, "--num-tickets", "0")


def test_data_folders_that_hold_no_data(here, refused):
    folder = here / "data"
    folder.mkdir()
    assert f"{folder} holds no images in a form that is known" in refused("--data-dir", str(folder))
    (folder / "train-00000-of-00001.parquet").write_text("not a table")
    assert "train-00000-of-00001.parquet" in refused("--data-dir", str(folder))


def test_labels_that_do_not_fit(here, refused):
    for split in ("train", "test"):
        for label in range(11):
            (here / f"data/{split}/class{label:02d}").mkdir(parents=True)
            Image.new("RGB", (32, 32)).save(here / f"data/{split}/class{label:02d}/0.png")
    assert "has 11 classes, not 10" in refused("--data", "cifar10", "--data-dir", "data")


@pytest.mark.parametrize(("file", "remedy"), [("summary.json", "--overwrite"), ("metrics.csv", "--resume auto")])
def test_an_output_folder_in_use(file, remedy, here, refused):
    (here / "used").mkdir()
    (here / "used" / file).write_text("a run")
    (here / "used" / "args.yaml").write_text("seed: 0")
    assert remedy in refused(*SPARSE.split(), "--output-dir", "used")


def test_without_network_a_process_ends_in_one_line_too(here):
    command = [sys.executable, Path(main_cifar.__file__), "--output-dir", "run"]
    home = here.parent / f"{here.name}-home"
    offline = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(home), "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(command, cwd=here, env=offline, capture_output=True, text=True, timeout=120)
    assert (ended.returncode, ended.stdout, ended.stderr.count("\n")) == (2, "", 1)
    assert ended.stderr.startswith("main_cifar.py: ") and "--data-dir" in ended.stderr
    assert contents(here) == {}
