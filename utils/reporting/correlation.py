"""Are ensembles of more accurate networks more accurate? FreeTickets, Table 8."""

from collections.abc import Sequence
from itertools import groupby
from statistics import fmean

from scipy.stats import pearsonr, spearmanr

from utils.reporting.groups import Group

Point = tuple[float, float]  # accuracy in percent of the networks, their mean, and of their ensemble


def correlation(groups: Sequence[Group]) -> list[list[str]]:
    """The table as cells, the header first: a row per ensemble of a network and data set, over all its settings.

    A setting, such as a sparsity of Figure 4, is a point, the mean of its seeds.
    """
    rows = [["data", "model", "method", "settings", "Pearson", "Spearman"]]
    whole = sorted((group for group in groups if "ensemble" in group.values), key=_kind)
    for kind, alike in groupby(whole, _kind):
        points = [point(group) for group in alike]
        rows.append([*kind, str(len(points)), *coefficients(points)])
    return rows


def _kind(group: Group) -> tuple[str, str, str]:
    return group.about.data, group.about.model, group.title


def point(group: Group) -> Point:
    """The means over the seeds."""
    tickets = [values for name, values in group.values.items() if name.startswith("ticket ")]
    return fmean(map(fmean, tickets)), fmean(group.values["ensemble"])


def coefficients(points: Sequence[Point]) -> list[str]:
    """Pearson's and Spearman's, of equal ranks their mean; empty where there are none: two settings have no spread."""
    networks, ensembles = zip(*points, strict=True)
    if len(points) < 3 or min(len({*networks}), len({*ensembles})) == 1:
        return ["", ""]
    return [f"{test(networks, ensembles).statistic:.3f}" for test in (pearsonr, spearmanr)]
