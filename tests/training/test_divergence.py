"""A loss that is not a number ends a run, and nothing of it is saved."""

from pathlib import Path

import pytest
from torch import nn

from tests.tiny import NETWORKS, SPARSE, Tiny, main


def diverging(classes: int, width: float) -> nn.Module:
    """Its loss is not a number from the first step on."""
    model = Tiny(classes, width, norm=False)
    nn.init.constant_(model[4].bias, float("inf"))
    return model


@pytest.mark.parametrize("options", [(), ("--sup-tickets", "--cycle-epochs", "2", "--num-tickets", "2"),
                                     ("--gradient-accumulation-steps", "2", "--batch-size", "8")])  # fmt: skip
def test_a_loss_that_is_not_a_number_ends_the_run_in_one_line(options, tmp_path, monkeypatch):
    monkeypatch.setitem(NETWORKS, "plain", diverging)
    status, _, err = main(tmp_path, *SPARSE, "--epochs", "8", *options, "--model", "plain")
    assert status == 2
    assert err.count("\n") == 1
    assert "step 3" in err
    assert "learning rate 0.2" in err
    assert not (tmp_path / "checkpoints").exists(), "nothing of it is saved"


def test_a_signal_does_not_save_what_is_not_a_number(tmp_path, monkeypatch):
    monkeypatch.setitem(NETWORKS, "plain", diverging)
    status, _, err = main(tmp_path, *SPARSE, "--epochs", "8", "--model", "plain", stop=2)
    assert status == 2
    assert "learning rate" in err
    assert not list(Path(tmp_path).glob("checkpoints/*"))
