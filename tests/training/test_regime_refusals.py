"""What a regime cannot do is refused before it trains."""

from pathlib import Path

import pytest

from tests.tiny import main
from tests.training.regimes import CYCLES, DENSE, MASKABLE, NNZ, OF, Runs


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((*DENSE, "--snapshot", "--num-tickets", "7", "--epochs", "2"), "no more than 6"),
        ((*OF, "--method", "pf", "--epochs", "3", "--fine-tune-epochs", "3"), "--fine-tune-epochs 3"),
        ((*OF, *CYCLES, "--explore-growth", "momentum"), "momentum is tracked from the start"),
        ((*OF, *CYCLES, "--method", "dsr", "--explore-drop", "largest"), "DSR drops what is below its threshold"),
        ((*OF, "--edst", "--epochs", "9", "--exploration-epochs", "3", "--refine-epochs", "2", "--method", "granet",
          "--prune-end", "0.9", "--update-frequency", "7"), "before the first ticket is at 7"),
        ((*OF, "--method", "static", "--rewind", "nowhere"), "train the run to rewind with --save-early"),
        ((*OF, "--distill", "nowhere.safetensors"), "there is no ticket nowhere.safetensors"),
    ],
)  # fmt: skip
def test_what_a_regime_cannot_do_is_refused_before_it_trains(words: tuple[str, ...], says: str, tmp_path: Path) -> None:
    status, out, err = main(tmp_path / "run", *words)
    assert (status, out) == (2, "") and err.count("\n") == 1 and says in err
    assert not (tmp_path / "run").exists()


def test_connections_of_another_density_are_no_start(finished: Runs, tmp_path: Path) -> None:
    words = (*OF, "--method", "static", "--rewind", str(finished("gmp")), "--density", "0.3")
    status, _, err = main(tmp_path, *words)
    assert status == 2 and f"there are {NNZ} connections to start from" in err and err.count("\n") == 1
    assert f"density 0.3 means {round(0.3 * MASKABLE)}" in err
