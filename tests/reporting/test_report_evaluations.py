"""What utils.evaluate has added to the summaries of runs: columns of the report, and correlations of ensembles."""

import json

import numpy as np
import pytest
from scipy.stats import rankdata

from tests.commands import run_command
from tests.reporting.summaries import PLAIN, metrics, sup_tickets, write
from utils.report import main
from utils.reporting.correlation import coefficients

ADDED = {"corrupted_accuracy": 76.1234, "corrupted_nll": 1.05, "corrupted_ece": 0.153, "corrupted_brier": 0.3}


def test_they_are_columns_of_the_model_to_use(tmp_path, table):
    """Mean and deviation over the seeds; what a run lacks is left out, as are numbers that no table shows."""
    for seed, area in ((0, 0.89), (1, 0.91)):
        superposed = {**metrics(94.0), **ADDED, "ood_svhn": area, "fgsm_mean": 38.5}
        summary = sup_tickets(seed, 94.0)
        summary["test"]["superposed"] = superposed
        summary["test"]["final"]["adversarial_accuracy"] = 1.0  # of another model
        write(tmp_path / str(seed), summary)
    (row,) = table(tmp_path)
    *_, acc, nll, ece, area, fgsm, _, _ = [*row.items()]
    assert (acc, nll, ece) == (("cAcc", "76.12 ± 0.00"), ("cNLL", "1.050 ± 0.000"), ("cECE", "0.153 ± 0.000"))
    assert (area, fgsm) == (("AUROC svhn", "0.9000 ± 0.0141"), ("FGSM mean", "38.50 ± 0.00"))
    assert "cBrier" not in row and "aAcc" not in row


def test_as_data_they_have_the_same_names(tmp_path):
    write(tmp_path / "run", {**PLAIN, "test": {"final": {**metrics(93.0), **ADDED}}})
    run_command(main, tmp_path, "--json", tmp_path / "table.json")
    (row,) = json.loads((tmp_path / "table.json").read_text())
    assert (row["cAcc"], row["cAcc std"]) == (76.1234, None)


# ---- Table 8 ---------------------------------------------------------------------------------------------------------


def by_definition(x: list[float], y: list[float]) -> float:
    dx, dy = np.array(x) - np.mean(x), np.array(y) - np.mean(y)
    return float((dx * dy).sum() / np.sqrt((dx**2).sum() * (dy**2).sum()))


@pytest.mark.parametrize(
    "points",
    [
        [(90.0, 91.0), (92.0, 93.5), (93.0, 93.0), (95.0, 96.0), (94.0, 95.9), (96.0, 96.1)],
        [(90.0, 96.0), (90.0, 95.0), (91.0, 95.0), (92.0, 94.0)],  # ties
        [(90.0, 96.0), (91.0, 95.0), (92.0, 94.0)],
    ],
)
def test_correlations_by_their_definitions(points):
    """Spearman's is Pearson's of the ranks, of equal values their mean."""
    x, y = zip(*points, strict=True)
    expected = [by_definition(x, y), by_definition(rankdata(x), rankdata(y))]
    assert coefficients(points) == [f"{value:.3f}" for value in expected]


def test_two_settings_or_equal_ones_have_no_correlation():
    for points in ([(90.0, 91.0)], [(90.0, 91.0), (92.0, 93.0)], [(90.0, 91.0), (90.0, 92.0), (90.0, 93.0)]):
        assert coefficients(points) == ["", ""]


def test_each_sparsity_is_a_point_and_each_ensemble_a_row(tmp_path, capsys):
    """The mean over networks and seeds, of each kind of ensemble on its own; runs without one do not count."""
    networks = {0.5: (90.0, 92.0), 0.2: (91.0, 94.0), 0.1: (92.0, 92.0), 0.05: (88.0, 90.0)}
    ensembles = {0.5: 93.0, 0.2: 94.0, 0.1: 93.5, 0.05: 90.0}
    for (density, own), seed, args in ((d, s, a) for d in networks.items() for s in (0, 1) for a in ("edst", "dst")):
        shift = seed if args == "edst" else -seed
        tickets = [metrics(accuracy + shift) for accuracy in own]
        test = {"final": tickets[-1], "tickets": tickets, "ensemble": metrics(ensembles[density] + shift)}
        regime = {"edst": True, "num_tickets": 2} if args == "edst" else {"ensemble": 2}
        write(tmp_path / f"{args}{density}{seed}", {**PLAIN, "density": density, "seed": seed, "test": test}, **regime)
    write(tmp_path / "plain", PLAIN)
    run_command(main, tmp_path, "--correlation")
    table = capsys.readouterr().out.split("\n\n")[-1].splitlines()
    rows = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in table]
    expected = coefficients([(float(np.mean(networks[density])), ensembles[density]) for density in networks])
    assert rows[0] == ["data", "model", "method", "settings", "Pearson", "Spearman"]
    assert rows[2:] == [["cifar10", "vgg16", title, "4", *expected] for title in ("RigL, EDST", "RigL, ensemble of 2")]
