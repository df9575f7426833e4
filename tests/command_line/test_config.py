"""Options from a file: where it stands, what it may say, and files that are none."""

import os
from itertools import pairwise

import pytest

from tests.command_line.lines import parsed


def test_config_sets_any_option_and_the_command_line_goes_before(config):
    options = {"data": "digits", "epochs": 20, "lr": 0.02, "lr-drops": [0.3, 0.6], "sparse": True, "density": 0.1,
               "method": "set", "exempt": ["fc*"], "compile": False, "data_dir": None}  # fmt: skip
    words = "--data digits --epochs 20 --lr .02 --lr-drops .3 .6 --sparse --density .1 --method set --exempt fc*"
    file = config(options)
    assert parsed(*file) == {**parsed(*words.split()), "config": file[1]}
    given = parsed(*file, "--epochs", "30", "--lr-drops", "0.5")
    assert given == {**parsed(*file), "epochs": 30, "lr_drops": (0.5,)}
    assert parsed("--epochs", "30", *file)["epochs"] == 30  # wherever --config stands


def test_numbers_may_be_written_as_yaml_reads_them(config):
    assert parsed(*config("lr: 1e-2\nweight_decay: 5.0e-4\nseed: 7"))["lr"] == 0.01  # YAML 1.1 takes 1e-2 for a string


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("denisty: 0.1", "did you mean density?"),
        ("batchsize: 4", "did you mean batch_size?"),
        ("zzz: 1", "unknown key 'zzz'"),
        ("1: 2", "unknown key 1"),
        ("config: other.yaml", "unknown key"),
        ("epochs: many", "--epochs"),
        ("epochs: 2.5", "--epochs"),
        ("epochs: {a: 1}", "epochs takes a word or a number"),
        ("epochs: [1, 2]", "2"),
        ("lr: true", "lr takes a value"),
        ("epochs: false", "epochs takes a value"),
        ("sparse: 5", "sparse takes true or false"),
        ("sparse: 'yes'", "sparse takes true or false"),
        ("sparse: true\nmethod: best", "--method"),
        ("sparse: true\ndensity: 0", "--density"),
        ("density: 0.1", "--sparse"),
        ("- epochs", "not a mapping"),
        ("just words", "not a mapping"),
        ("epochs: [", "cannot be read"),
    ],
)
def test_a_wrong_config_is_refused(content, says, config, refused):
    assert says in refused(*config(content))


def test_an_empty_config_changes_nothing(config):
    file = config("")
    assert parsed(*file) == {**parsed(), "config": file[1]}


def test_a_config_that_is_not_there(refused, tmp_path):
    assert "cannot be read" in refused("--config", str(tmp_path / "none.yaml"))
    assert "cannot be read" in refused("--config", str(tmp_path))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("epochs: 3\nepochs: 4", "epochs is given twice"),
        ("batch-size: 3\nbatch_size: 4", "batch_size is given twice"),
        ("data: digits\nlr: {a: 1, a: 2}", "a is given twice"),
        ("output_dir: {a: b}", "output_dir takes a word or a number"),
        ("exempt: [a, '--overwrite']\nsparse: true", "exempt takes a word or a number, not str '--overwrite'"),
        ("output_dir: --overwrite", "output_dir takes a word or a number"),
        ("exempt: [[a]]\nsparse: true", "exempt takes a word or a number, not list"),
        ("model: !!binary aGVsbG8=", "model takes a word or a number"),
        ("[" * 1000 + "]" * 1000, "cannot be read"),
        ("epochs: " + "[" * 1000 + "]" * 1000, "cannot be read"),
        ("# " + "x" * 2**20, "more than"),
        ("model: !!python/object:os.system a", "cannot be read"),
    ],
)  # fmt: skip
def test_a_config_that_can_be_read_two_ways_or_not_at_all_is_refused(content, says, config, refused):
    message = refused(*config(content))
    assert says in message and len(message) < 600


def test_a_config_that_grows_when_it_is_read_is_refused(config, refused):
    laughs = ["a: &a [x, x, x, x, x, x, x, x, x]"]
    laughs += [f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]" for a, b in pairwise("abcdefghijkl")]
    items = "".join(f"\n- {{{laugh}}}" for laugh in laughs)
    assert "takes a word or a number" in refused(*config(f"sparse: true\nexempt:{items}"))


@pytest.mark.parametrize("place", ["/dev/zero", "/dev/null", "fifo"])
def test_a_config_that_has_no_end_is_not_waited_for(place, tmp_path, refused):
    os.mkfifo(tmp_path / "fifo")
    assert "no regular file" in refused("--config", str(tmp_path / place))
