"""What the report's picture draws: which rows, in which order, under which names."""

import pytest

from tests.reporting.summaries import PLAIN, metrics, sup_tickets, write
from utils.reporting.groups_plot import panels
from utils.reporting.read import find_summaries, read_groups
from utils.reporting.style import plt

GRANET = {"method": "granet"}


@pytest.fixture
def drawn(tmp_path):
    """Call it: returns {title of a panel: {label of a line: {drawn x}}} of the runs below tmp_path, from above."""

    def draw() -> dict[str, dict[str, set[float]]]:
        found = {}
        figure = panels(read_groups(find_summaries([str(tmp_path)])))
        for axis in figure.axes:
            lines = list(zip(axis.get_yticks(), axis.get_yticklabels(), strict=True))
            assert [y for y, _ in lines] == sorted(y for y, _ in lines) and axis.yaxis_inverted()
            marks = [(line.get_ydata()[0], x) for line in axis.get_lines() for x in line.get_xdata()]
            rows = {y: {x for height, x in marks if abs(height - y) < 0.3} for y, _ in lines}
            found[axis.get_title()] = {label.get_text().replace("\n", " "): rows[y] for y, label in lines}
        return found

    yield draw
    plt.close("all")


def test_rows_of_a_method_stand_together_the_best_one_first(tmp_path, drawn):
    write(tmp_path / "g", {**PLAIN, **GRANET, "test": {"final": metrics(95.0)}})
    write(tmp_path / "a", PLAIN)
    write(tmp_path / "b", sup_tickets(0, 94.0))
    write(tmp_path / "c", sup_tickets(1, 95.0))
    write(tmp_path / "dense", {**PLAIN, "method": "dense", "density": 1.0, "test": {"final": metrics(94.0)}})
    assert drawn() == {"vgg16 on cifar10, 95 % sparse, 250 epochs": {
        "Dense": {94.0}, "RigL": set(),
        "+ Sup-tickets": {90.0, 91.0, 92.0, 93.0, 94.0, 95.0, 90.5, 94.5},  # with the means of three kinds of models
        "by itself": {93.0}, "GraNet": {95.0},
    }}  # fmt: skip


def test_a_label_has_what_differs_within_the_panel_and_no_more_options_than_are_needed(tmp_path, drawn):
    settings = {"a": ("cia", 0.5, ["gradient", "random"]), "b": ("cia", 0.9, ["random", "random", "random"]),
                "c": ("caa", 0.5, ["gradient", "random"])}  # fmt: skip
    for name, (average, rate, growth) in settings.items():
        options = {"superpose": average, "explore_rate": rate, "explore_growth": growth}
        write(tmp_path / name, sup_tickets(0, 94.0 + rate), **options)
    write(tmp_path / "d", {**sup_tickets(0, 94.0), "density": 0.1}, superpose="cia", explore_rate=0.5)
    ((title, rows),) = drawn().items()
    assert title == "vgg16 on cifar10, 250 epochs"
    assert list(rows)[1] == "+ Sup-tickets, 90 %, explore rate 0.5, superpose cia"
    assert not any("growth" in label for label in rows) and len(rows) == 5


def test_networks_have_panels_and_a_width_that_all_share_is_in_the_title(tmp_path, drawn):
    write(tmp_path / "a", PLAIN, width=0.25)
    write(tmp_path / "b", {**PLAIN, "model": "resnet20", "epochs": 80})
    assert {title: list(rows) for title, rows in drawn().items()} == {
        "resnet20 on cifar10, 95 % sparse, 80 epochs": ["RigL"],
        "vgg16 on cifar10, width 0.25, 95 % sparse, 250 epochs": ["RigL"],
    }
