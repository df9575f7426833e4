"""Pictures of runs beside each other."""

import pytest

from tests.reporting.summaries import PLAIN, metrics, sup_tickets, write
from utils.pictures.runs import draw_densities
from utils.reporting.style import plt


def test_density_over_time_is_that_of_metrics_csv(tmp_path, draw):
    for name, densities in {"a": (0.5, 0.2), "b": (0.5, 0.2), "c": (0.1, 0.1)}.items():
        (tmp_path / name).mkdir()
        rows = "".join(f"{epoch},normal,{density}\n" for epoch, density in enumerate(densities, 1))
        (tmp_path / name / "metrics.csv").write_text("epoch,phase,density\n" + rows)
    runs = draw("density", "--runs", tmp_path)
    assert [(run["name"], run["epoch"], run["density"]) for run in runs] == [
        ("a", [1, 2], [0.5, 0.2]), ("b", [1, 2], [0.5, 0.2]), ("c", [1, 2], [0.1, 0.1])
    ]  # fmt: skip
    (axis,) = draw_densities(runs).axes
    assert {line.get_label(): list(line.get_ydata()) for line in axis.get_lines()} == {
        "a and 1 more": [0.5, 0.2], "c": [0.1, 0.1]
    }  # fmt: skip
    assert axis.get_yscale() == "log"
    plt.close("all")


def test_accuracy_stands_against_sparsity_and_against_flops(tmp_path, draw):
    for seed, density in ((0, 0.05), (1, 0.05), (0, 0.2)):
        test, flops = {"final": metrics(90.0 + seed)}, {"train_ratio": 2 * density, "test_ratio": density}
        folder = tmp_path / f"{seed}-{density}"
        write(folder, {**PLAIN, "seed": seed, "density": density, "test": test, "flops": flops})
    write(tmp_path / "sup", sup_tickets(0, 94.0))
    points = draw("accuracy", "--runs", tmp_path)
    assert [(p["method"], p["sparsity"], p["accuracy"]) for p in points] == [
        ("RigL", pytest.approx(0.8), [90.0]), ("RigL", 0.95, [90.0, 91.0]), ("RigL + Sup-tickets", 0.95, [94.0])
    ]  # fmt: skip
    assert [p["flops"] for p in points] == pytest.approx([0.4, 0.1, 0.21])


def test_what_cannot_be_drawn_is_one_line(tmp_path, tickets, refused):
    write(tmp_path / "a", PLAIN)
    write(tmp_path / "b", {**PLAIN, "model": "resnet50"})
    (tmp_path / "a" / "metrics.csv").write_text("epoch\n1\n")
    for words, says in {
        ("accuracy", "--runs", tmp_path): "resnet50 on cifar10 and vgg16 on cifar10: take those of one",
        ("density", "--runs", tmp_path / "b"): "no metrics.csv in",
        ("density", "--runs", tmp_path / "a"): "is no metrics.csv of a run: 'density'",
        ("density",): "give --runs, 1 or more",
        ("line", "--tickets", tickets[0]): "give --tickets, 2 or more",
        ("trajectories", "--tickets", *tickets): "give --tickets, 4 or more",
        ("density", "--tickets", tickets[0]): "--tickets does nothing with --picture density",
        ("overlap", "--runs", "a"): "--runs does nothing",
        ("overlap", "--tickets", *tickets, "--points", 3): "--points does nothing",
        ("overlap", "--tickets", *tickets, "--names", "a"): "1 --names are not for 3 tickets",
        ("overlap", "--tickets", *tickets, "--output", "a.what"): "no kind of picture",
        ("overlap", "--tickets", *tickets, "--output", tickets[0]): "another file of this command",
        ("line", "--tickets", *tickets, "--points", 1): "--points 1 is not 2 or more",
        ("rainbow",): "invalid choice: 'rainbow'",
    }.items():  # fmt: skip
        assert says in refused(*words)
