"""What the pictures of a run draw."""

from itertools import pairwise
from typing import Any

import pytest
from matplotlib.axes import Axes

from sparselearning.phases import normal_phase, sup_tickets
from utils.reporting.plots import learning_curve, sparsity
from utils.reporting.style import plt

STEPS = 5  # of an epoch
PLAN = sup_tickets(normal_phase(6, STEPS, 0.1, (0.5,)), 2, 2 * STEPS, 0.001, 0.005, [None])
TICKETS = {"normal": {"accuracy": 90.25}, "tickets": [{"accuracy": 90.5}, {"accuracy": 90.75}],
           "superposed": {"accuracy": 91.0}, "ensemble": {"accuracy": 91.25}, "final": {"accuracy": 90.75}}  # fmt: skip


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def history(epochs: int, valid: bool = False) -> list[Any]:
    rows = [{"epoch": i, "step": STEPS * i, "accuracy": 10.0 * i, "valid_accuracy": None} for i in range(1, epochs + 1)]
    return [{**row, "valid_accuracy": 9.0 * row["epoch"]} for row in rows] if valid else rows


def points(axis: Axes) -> dict[str, list[tuple[float, float]]]:
    """{label: points} of all that is drawn."""
    found: dict[str, list[tuple[float, float]]] = {}
    for line in axis.get_lines():
        found.setdefault(str(line.get_label()), []).extend(zip(line.get_xdata(), line.get_ydata(), strict=True))
    return found


def test_the_part_with_the_tickets_has_a_panel_of_its_own() -> None:
    figure = learning_curve(history(10), PLAN, TICKETS)
    whole, zoomed, _, rates = figure.axes
    assert points(whole)["training images"] == [(i, 10.0 * i) for i in range(1, 11)]
    drawn = points(zoomed)
    assert drawn["end of the normal phase"] == [(6, 90.25)] and drawn["tickets"] == [(8, 90.5), (10, 90.75)]
    assert {text.get_text() for text in zoomed.texts} == {"90.25", "90.50", "90.75", "91.00", "91.25"}
    left, right = zoomed.get_xlim()
    assert 5 < left < 6 and 10 < right < 12
    for axis in (whole, zoomed, rates):  # where the normal phase ends
        assert any(list(line.get_xdata()) == [6, 6] for line in axis.get_lines())


def test_nothing_hides_the_last_ticket() -> None:
    drawn = points(learning_curve(history(10), PLAN, TICKETS).axes[1])
    ((superposed, height),), ((ensemble, _),) = drawn["superposed"], drawn["their ensemble"]
    assert 10.2 < superposed < ensemble and height == 91.0


def test_a_cycle_is_a_triangle() -> None:
    """Eq. 3, on a linear scale: straight up to its middle, straight down to its end."""
    rates = learning_curve(history(10), PLAN, TICKETS).axes[3]
    assert rates.get_yscale() == "linear"
    (curve,) = (line for line in rates.get_lines() if len(line.get_xdata()) > 2)
    cycle = [rate for at, rate in zip(curve.get_xdata(), curve.get_ydata(), strict=True) if 6 <= at < 8]
    assert len(cycle) == 2 * STEPS and max(cycle) == cycle[STEPS - 1] == 0.005
    rise = {round(b - a, 9) for a, b in pairwise(cycle[:STEPS])}
    fall = {round(b - a, 9) for a, b in pairwise(cycle[STEPS - 1 :])}
    assert len(rise) == len(fall) == 1 and rise == {-step for step in fall}


def test_a_run_without_tickets_has_one_panel_and_its_test_point() -> None:
    plan = [normal_phase(10, STEPS, 0.1, (0.5,))]
    figure = learning_curve(history(10, valid=True), plan, {"tickets": [], "final": {"accuracy": 88.0}})
    accuracy, _ = figure.axes
    drawn = points(accuracy)
    assert drawn["test images"] == [(10, 88.0)] and drawn["validation images"][-1] == (10, 90.0)


def test_many_tickets_have_no_numbers_beside_them() -> None:
    plan = sup_tickets(normal_phase(2, STEPS, 0.1, ()), 8, STEPS, 0.001, 0.005, [None])
    results = {"tickets": [{"accuracy": 90.0 + i} for i in range(8)], "final": {"accuracy": 97.0}}
    zoomed = learning_curve(history(10), plan, results).axes[1]
    assert len(points(zoomed)["tickets"]) == 8 and not zoomed.texts


def test_densities_are_drawn_on_a_logarithmic_scale_with_their_counts() -> None:
    nnz, sizes = {"a.weight": 500, "b.weight": 30, "c.weight": 0}, {"a.weight": 1000, "b.weight": 9000, "c.weight": 90}
    axis, counts = sparsity(nnz, sizes).axes
    assert axis.get_xscale() == "log" and [bar.get_width() for bar in axis.patches] == [0.5, 30 / 9000, 0]
    assert axis.get_xlim() == (0.001, 1)
    assert [label.get_text() for label in axis.get_yticklabels()] == ["a", "b", "c"]
    texts = [" ".join(label.get_text().split()) for label in counts.get_yticklabels()]
    assert texts == ["50 % 500 of 1,000", "0.333 % 30 of 9,000", "0 % 0 of 90"]
    assert list(axis.lines[0].get_xdata()) == [530 / 10090] * 2 and axis.texts[0].get_text() == "network 5.25 %"
