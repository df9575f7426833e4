"""Every schedule against the formula of its paper, typed anew."""

import math
from fractions import Fraction

import pytest

from sparselearning.schedules import gradual_density, prune_rate, step_decay, triangle

# ---- Eq. 3 -----------------------------------------------------------------------------------------------------------


def eq3(i: int, cycle: int, a1: Fraction, a2: Fraction) -> Fraction:
    """α(i) of the paper; i counts iterations from 1."""
    t = Fraction((i - 1) % cycle + 1, cycle)
    if 0 < t <= Fraction(1, 2):
        return (1 - 2 * t) * a1 + 2 * t * a2
    return (2 - 2 * t) * a2 + (2 * t - 1) * a1


@pytest.mark.parametrize("cycle", [1, 2, 3, 7, 10, 391, 3128])
@pytest.mark.parametrize(("low", "high"), [("0.001", "0.005"), ("0.0001", "0.0005"), ("0.01", "0.01")])
def test_the_triangle_is_equation_3_at_every_step(cycle: int, low: str, high: str) -> None:
    a1, a2 = Fraction(low), Fraction(high)
    for step in range(2 * cycle):
        assert triangle(step, cycle, float(low), float(high)) == pytest.approx(
            float(eq3(step + 1, cycle, a1, a2)), rel=1e-12
        )


@pytest.mark.parametrize("cycle", [2, 3, 7, 10, 3128])
def test_a_cycle_ends_at_its_lowest_rate_where_the_ticket_is_taken(cycle: int) -> None:
    rates = [triangle(step, cycle, 0.001, 0.005) for step in range(cycle)]
    assert rates[-1] == 0.001 == min(rates)
    assert rates.count(0.001) == 1  # the first step is above it: t > 0
    assert max(rates) <= 0.005
    assert rates[cycle // 2 - 1] == pytest.approx(max(rates), rel=1e-12)  # the middle
    assert cycle % 2 or max(rates) == 0.005


def test_four_steps_by_hand() -> None:
    assert [triangle(step, 4, 1.0, 5.0) for step in range(9)] == [3.0, 5.0, 3.0, 1.0, 3.0, 5.0, 3.0, 1.0, 3.0]


# ---- the learning rate of the normal phase ---------------------------------------------------------------------------


def test_step_decay_falls_at_the_milestones_and_never_rises_again() -> None:
    rates = [step_decay(step, 0.1, [3, 5]) for step in range(8)]
    assert rates == pytest.approx([0.1, 0.1, 0.1, 0.01, 0.01, 0.001, 0.001, 0.001], rel=1e-12)


def test_warm_up_is_linear_and_ends_at_the_base_rate() -> None:
    rates = [step_decay(step, 0.4, [6], warmup=4) for step in range(8)]
    assert rates == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.4, 0.4, 0.04, 0.04], rel=1e-12)


# ---- how much moves --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("decay", "rates"),  # at a quarter of the run, and beyond its end
    [
        ("constant", [0.5, 0.5, 0.5, 0.5, 0.5, 0.5]),
        ("linear", [0.5, 0.375, 0.25, 0.125, 0.0, 0.0]),
        ("cosine", [0.5, 0.25 + math.sqrt(0.5) / 4, 0.25, 0.25 - math.sqrt(0.5) / 4, 0.0, 0.0]),
    ],
)
def test_prune_rate_by_hand(decay: str, rates: list[float]) -> None:
    assert [prune_rate(step, 1000, 0.5, decay) for step in (0, 250, 500, 750, 1000, 1001)] == pytest.approx(rates)


def test_a_constant_prune_rate_needs_no_end() -> None:
    assert prune_rate(10**9, None, 0.3, "constant") == 0.3


@pytest.mark.parametrize(
    ("step", "density"),  # from 1/2 at step 100 to 1/10 at step 500
    [
        (0, Fraction(1, 2)),
        (100, Fraction(1, 2)),
        (200, Fraction(1, 10) + Fraction(2, 5) * Fraction(27, 64)),
        (300, Fraction(1, 10) + Fraction(2, 5) * Fraction(1, 8)),
        (400, Fraction(1, 10) + Fraction(2, 5) * Fraction(1, 64)),
    ],
)
def test_the_cubic_by_hand(step: int, density: Fraction) -> None:
    assert gradual_density(step, 100, 500, 0.5, 0.1) == pytest.approx(float(density), rel=1e-12)


@pytest.mark.parametrize("final", [0.1, 0.05, 0.02, 1 / 3])
def test_the_cubic_ends_at_exactly_the_final_density(final: float) -> None:
    assert [gradual_density(step, 0, 7, 0.5, final) for step in (7, 8, 10**9)] == [final] * 3
    course = [gradual_density(step, 0, 7, 0.5, final) for step in range(8)]
    assert course == sorted(course, reverse=True)
    assert course[0] == 0.5
    assert course[6] > final
