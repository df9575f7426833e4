"""The plan of a run is the papers', and what does not fit is refused with something that does."""

import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sparselearning.errors import UsageError
from sparselearning.phases import Exploration, Phase, cyclic_epochs, normal_phase, sup_tickets

BATCHES = 391  # of 128, from 50,000 images


def paper_plan() -> list[Phase]:
    cyclic = cyclic_epochs(250, 8, None, None)
    normal = normal_phase(250 - cyclic, BATCHES, 0.1, (0.5, 0.75))
    return sup_tickets(normal, cyclic // 8, 8 * BATCHES, 0.001, 0.005, [Exploration(0.5)])


def test_the_plan_of_the_paper_for_cifar() -> None:
    rows = [(p.name, p.start, p.end, p.updates, p.explore and p.explore.rate, p.ticket) for p in paper_plan()]
    assert rows == [
        ("normal", 0, 226 * BATCHES, True, None, False),
        ("cycle 1", 226 * BATCHES, 234 * BATCHES, False, 0.5, True),
        ("cycle 2", 234 * BATCHES, 242 * BATCHES, False, 0.5, True),
        ("cycle 3", 242 * BATCHES, 250 * BATCHES, False, 0.5, True),
    ]


def test_the_learning_rate_of_the_paper_for_cifar() -> None:
    normal, *cycles = paper_plan()
    rates = [normal.lr(step) for step in range(226 * BATCHES)]
    falls = [step for step in range(1, len(rates)) if rates[step] != rates[step - 1]]
    assert falls == [113 * BATCHES, 169 * BATCHES]
    assert sorted(set(rates), reverse=True) == pytest.approx([0.1, 0.01, 0.001])
    for cycle in cycles:
        course = [cycle.lr(step) for step in range(cycle.end - cycle.start)]
        assert len(course) == 3128
        assert course[-1] == 0.001 == min(course)
        assert course[1563] == 0.005 == max(course)
        assert course[0] == pytest.approx(0.001 + 0.004 / 1564)


def test_the_plan_of_the_paper_for_imagenet() -> None:
    cyclic = cyclic_epochs(100, 2, 4, None)
    normal = normal_phase(100 - cyclic, 10, 0.1, (30 / 92, 60 / 92, 85 / 92), warmup=5 / 92)
    assert (cyclic, normal.end) == (8, 920)
    by_epoch = [normal.lr(10 * epoch) for epoch in range(92)]
    falls = [epoch for epoch in range(1, 92) if by_epoch[epoch] < by_epoch[epoch - 1]]
    assert falls == [30, 60, 85]
    assert [normal.lr(step) for step in (0, 24, 49, 50)] == pytest.approx([0.002, 0.05, 0.1, 0.1])


@pytest.mark.parametrize(
    ("epochs", "cycle", "tickets", "fraction", "cyclic"),
    [
        (250, 8, None, None, 24),
        (250, 8, None, 0.1, 24),
        (100, 2, None, None, 10),
        (100, 2, 4, None, 8),
        (10, 1, None, 0.7, 7),  # 0.7·10 is 7
        (100, 29, None, 0.29, 29),  # 28.999999999999996 in binary
        (250, 8, 2, None, 16),
        (250, 8, 31, None, 248),  # more than a tenth, because the number was asked for
        (9, 8, 1, None, 8),
        (250, 8, 6, 0.2, 48),
    ],
)
def test_the_cyclic_phase_is_whole_cycles(
    epochs: int, cycle: int, tickets: int | None, fraction: float | None, cyclic: int
) -> None:
    assert cyclic_epochs(epochs, cycle, tickets, fraction) == cyclic


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((250, 0, None, None), "cycle_epochs must be at least 1"),
        ((250, -8, 3, None), "cycle_epochs must be at least 1"),
        ((250, 8, None, 1.0), "ticket_fraction between 0 and 1"),
        ((250, 8, None, -0.1), "ticket_fraction between 0 and 1"),
        ((250, 8, None, 0.0), "ticket_fraction between 0 and 1"),
        ((70, 8, None, None), r"7 of 70 epochs are for tickets, but a cycle takes 8"),
        ((250, 8, 32, None), "room for 1 to 31 tickets"),
        ((250, 8, 0, None), "room for 1 to 31 tickets"),
        ((250, 8, -1, None), "room for 1 to 31 tickets"),
        ((250, 8, 4, 0.1), "room for 1 to 3 tickets"),
        ((8, 8, 1, None), "room for none"),
        ((70, 8, 1, 0.1), "room for none"),
    ],
)
def test_plans_that_cannot_be_are_refused(arguments: tuple, message: str) -> None:
    with pytest.raises(UsageError, match=message) as error:
        cyclic_epochs(*arguments)
    assert "\n" not in str(error.value)


@settings(max_examples=400, deadline=None)
@given(st.integers(2, 300), st.integers(1, 40), st.none() | st.sampled_from([0.05, 0.1, 0.15, 0.25, 0.5]))
@example(200, 199, None)  # no fraction of two digits
@example(5, 1, None)
def test_every_suggestion_of_the_error_fits(epochs: int, cycle: int, fraction: float | None) -> None:
    try:
        cyclic = cyclic_epochs(epochs, cycle, None, fraction)
    except UsageError as error:
        message = str(error)
    else:
        assert cyclic % cycle == 0
        assert cycle <= cyclic <= (fraction or 0.1) * epochs + 1e-6
        assert cyclic + cycle > (fraction or 0.1) * epochs - 1e-6
        return
    if shorter := re.search(r"cycle_epochs (?:of at most )?(\d+)", message):
        assert cyclic_epochs(epochs, int(shorter[1]), None, fraction) > 0
    if larger := re.search(r"ticket_fraction ([\d.e-]+)", message):
        assert cyclic_epochs(epochs, cycle, None, float(larger[1])) > 0
    if longer := re.search(r"(\d+) epochs(?: or more)?$", message):
        assert cyclic_epochs(int(longer[1]), cycle, None, fraction) > 0
    assert shorter or larger or longer


@settings(max_examples=200, deadline=None)
@given(st.integers(2, 300), st.integers(1, 40), st.integers(-2, 400), st.none() | st.sampled_from([0.1, 0.25, 0.5]))
def test_the_number_of_tickets_is_kept_or_refused_with_what_fits(
    epochs: int, cycle: int, tickets: int, fraction: float | None
) -> None:
    try:
        cyclic = cyclic_epochs(epochs, cycle, tickets, fraction)
    except UsageError as error:
        if room := re.search(r"1 to (\d+) tickets", str(error)):
            assert cyclic_epochs(epochs, cycle, int(room[1]), fraction) == int(room[1]) * cycle
            assert not 1 <= tickets <= int(room[1])
    else:
        assert cyclic == tickets * cycle < epochs


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 50), st.integers(1, 9), st.integers(1, 6), st.integers(1, 6))
def test_phases_follow_each_other_without_gap(epochs: int, batches: int, tickets: int, cycle: int) -> None:
    normal = normal_phase(epochs, batches, 0.1, (0.5,))
    plan = sup_tickets(normal, tickets, cycle * batches, 0.001, 0.005, [Exploration(0.5)])
    assert len(plan) == tickets + 1
    assert [phase.start for phase in plan] == [0, *(phase.end for phase in plan[:-1])]
    assert plan[-1].end == (epochs + tickets * cycle) * batches


@pytest.mark.parametrize(
    ("fraction", "epochs", "epoch"), [(0.5, 226, 113), (0.75, 226, 169), (0.29, 100, 29), (0.7, 90, 63)]
)
def test_the_rate_falls_at_the_epoch_that_the_fraction_names(fraction: float, epochs: int, epoch: int) -> None:
    phase = normal_phase(epochs, 5, 1.0, [fraction])
    assert [phase.lr(5 * epoch - 1), phase.lr(5 * epoch)] == pytest.approx([1.0, 0.1])
