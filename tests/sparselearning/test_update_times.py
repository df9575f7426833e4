"""When connections move, and how many of them: by the frequency, the window of the phase and the decay of p."""

import itertools
from itertools import pairwise

import pytest

from sparselearning import Masking
from tests.networks import layers, random_layers, row, sgd


@pytest.mark.parametrize(
    ("every", "total", "end", "steps"),
    [
        (100, 1000, None, [100, 200, 300, 400, 500, 600, 700, 800, 900]),  # not at 1000, with no training after
        (100, None, None, [100, 200, 300, 400, 500, 600, 700, 800, 900, 1000]),
        (100, 1000, 700, [100, 200, 300, 400, 500, 600]),
        (100, 1000, 701, [100, 200, 300, 400, 500, 600, 700]),
        (300, 1000, None, [300, 600, 900]),
        (999, 1000, None, [999]),
        (1000, 1000, None, []),
        (100, 1000, 0, []),
    ],
)
def test_update_times_of_a_thousand_steps(every: int, total: int | None, end: int | None, steps: list[int]) -> None:
    layer = row([1.0, 0.0, 0.0, 0.0], [0.0] * 4)
    optimizer = sgd(layer)
    masking = Masking(layer, optimizer, "set", 0.5, update_frequency=every, total_steps=total)
    if end is not None:
        masking.window = (0, end)
    seen, dropped = [], 0
    for step in range(1, 1001):
        optimizer.step()
        if masking.dropped != dropped:
            seen.append(step)
            dropped = masking.dropped
    assert masking.step == 1000
    assert seen == steps


@pytest.mark.parametrize(
    ("decay", "swapped"),
    [
        ("constant", [20] * 9),
        ("linear", [18, 16, 14, 12, 10, 8, 6, 4, 2]),
        ("cosine", [20, 19, 16, 14, 10, 7, 5, 2, 1]),
    ],
)
def test_the_prune_rate_decays_over_the_run(decay: str, swapped: list[int]) -> None:
    """40 of 400 weights active, p from 0.5; cosine: ⌈20·(1 + cos(π·t/10))/2⌉."""
    model = layers((20, 20))
    optimizer = sgd(model)
    masking = Masking(model, optimizer, "set", 0.1, update_frequency=1, total_steps=10, prune_rate_decay=decay)
    seen = [0]
    for _ in range(9):
        optimizer.step()
        seen.append(masking.dropped)
    assert [b - a for a, b in itertools.pairwise(seen)] == swapped


def test_the_drop_rate_decays_anew_in_each_phase() -> None:
    """FreeTickets, Algorithm 3 with the cosine of Appendix C: 40 of 400 weights active, p from 0.5."""
    model = layers((20, 20))
    optimizer = sgd(model)
    masking = Masking(model, optimizer, "set", 0.1, update_frequency=1, total_steps=10, prune_rate_decay="cosine")
    seen = [0]
    for window in ((0, 10), (10, 15)):
        masking.window = window
        for _ in range(window[1] - window[0]):
            optimizer.step()
            seen.append(masking.dropped)
    swapped = [b - a for a, b in pairwise(seen)]
    assert swapped == [20, 19, 16, 14, 10, 7, 5, 2, 1, 0, 19, 14, 7, 2, 0]


def test_methods_have_a_rate_of_their_own() -> None:
    model = random_layers()
    assert Masking(model, sgd(model), "dsr", 0.3).prune_rate == 0.08
    assert Masking(model, sgd(model), "set", 0.3).prune_rate == 0.5
    assert Masking(model, sgd(model), "dsr", 0.3, prune_rate=0.2).prune_rate == 0.2
