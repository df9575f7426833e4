"""What is refused in one line: options that do nothing, numbers that mean nothing, words that are none."""

from pathlib import Path

import pytest

from tests.command_line.lines import SUP, parsed


@pytest.mark.parametrize(
    "words",
    ["--method set", "--density 0.1", "--init-density 0.5 --method granet", "--sparse-init er", "--update-frequency 10",
     "--prune-rate 0.3", "--prune-rate-decay cosine", "--growth random", "--sup-tickets", "--edst", "--rewind RUN",
     "--method pf --fine-tune-epochs 9", "--method pf --fine-tune-lr 0.01", "--update-limit 100"],
)  # fmt: skip
def test_sparse_options_need_sparse(words, refused):
    assert "does nothing without --sparse: add --sparse" in refused(*words.split())
    assert parsed("--sparse", *words.split())


@pytest.mark.parametrize(
    "words",
    ["--cycle-epochs 4", "--ticket-fraction 0.2", "--num-tickets 2", "--explore-rate 0.3", "--lr-low 0.002",
     "--lr-high 0.02", "--superpose caa", "--bn recompute", "--include-normal", "--save-tickets", "--cycle-lr swa",
     "--explore-drop largest", "--explore-growth random none", "--prune-average last"],
)  # fmt: skip
def test_ticket_options_need_sup_tickets(words, refused):
    option = words.split()[0]
    assert f"{option} does nothing without --sup-tickets" in refused("--sparse", *words.split())
    assert parsed(*SUP, *words.split())


def test_beta_needs_cima(refused):
    assert "without --superpose cima: add" in refused(*SUP, "--cima-beta", "0.5")
    assert parsed(*SUP, "--superpose", "cima", "--cima-beta", "0.5")["cima_beta"] == 0.5


@pytest.mark.parametrize("density", ["0", "-0.1", "1.0001", "5", "nan", "inf"])
def test_density_lies_between_0_and_1(density, refused):
    assert "is not in (0, 1]" in refused("--sparse", "--density", density)


def test_a_network_may_be_kept_whole():
    assert parsed("--sparse", "--density", "1")["density"] == 1


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("--epoch 3", "--epoch"),  # options are not abbreviated: a later one could change what they mean
        ("--over", "--over"),
        ("--denisty 0.1", "--denisty"),
        ("stray", "stray"),
        ("--epochs", "--epochs"),
        ("--epochs 0", "--epochs 0"),
        ("--epochs ten", "--epochs"),
        ("--batch-size -4", "--batch-size -4"),
        ("--gradient-accumulation-steps 0", "--gradient-accumulation-steps 0"),
        ("--lr 0", "--lr 0"),
        ("--valid-fraction 1", "--valid-fraction 1"),
        ("--sparse --sup-tickets --explore-rate 2", "--explore-rate 2"),
        ("--sparse --sup-tickets --lr-high -1", "--lr-high -1"),
    ],
)
def test_a_wrong_command_line_is_refused(words, says, refused):
    assert says in refused(*words.split())


def test_the_program_is_named(monkeypatch, refused):
    monkeypatch.setattr("sys.argv", [str(Path("somewhere") / "main_cifar.py")])
    assert refused("--nonsense").startswith("main_cifar.py: ")


@pytest.mark.parametrize(
    "words",
    ["--momentum -1", "--momentum inf", "--weight-decay nan", "--lr nan", "--lr inf", "--seed -1", "--lr-drops 0.5 7",
     "--clip-grad-norm 0", "--checkpoint-minutes nan", "--epochs 0", "--valid-fraction 1", "--limit-train 0"],
)  # fmt: skip
def test_numbers_that_mean_nothing_are_refused(words, refused):
    assert f"{words.split()[0]} " in refused(*words.split())


@pytest.mark.parametrize("words", ["--init-density 0.3", "--prune-end 0.9", "--method static --init-density 0.3"])
def test_gradual_options_need_a_gradual_method(words, refused):
    assert "it is for granet and gmp" in refused("--sparse", *words.split())
