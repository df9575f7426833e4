"""Is a method with Sup-tickets another than without? Sup-tickets, Table 20."""

from collections.abc import Sequence
from itertools import product

from scipy.stats import ks_2samp

from utils.command_line.options import ROWS
from utils.command_line.rows import Setting
from utils.reporting.groups import PLAIN, Group
from utils.reporting.results import cell, distinctive_options

LEVEL = 0.05
OF_SUP_TICKETS = {"sup_tickets", *(name for name, row in ROWS.items() if "sup_tickets" in row.needs)}


def significance(groups: Sequence[Group]) -> list[list[str]]:
    """The table as cells, the header first: every method with Sup-tickets against itself without.

    Two-sample Kolmogorov-Smirnov test of the accuracies at the 5 % level; three seeds each are too few for any to be
    significant. Runs of one seed are the same until their plans part, so those with Sup-tickets count that have a seed
    of their own.
    """
    options = distinctive_options(groups)
    tested = ["seeds", "without", "with", "p-value", "significant"]
    rows = [["data", "model", "method", "sparsity", "epochs", *options, *tested]]
    for plain, sup in product(groups, groups):
        own = [run for run in sup.runs if run.seed not in plain.seeds]
        pair = plain.values.get(PLAIN, []), [run.numbers["superposed"] for run in own if "superposed" in run.numbers]
        if pair[0] and "superposed" in sup.values and _shared(plain) == _shared(sup):
            tested = ["{} and {}".format(*map(len, pair)), *(cell("superposed", values) for values in pair)]
            p = ks_2samp(*pair).pvalue if all(pair) else None
            tested += ["", "same seeds"] if p is None else [f"{p:.2e}", "yes" if p < LEVEL else "no"]
            rows.append([sup.about.data, sup.about.model, *sup.names(options), *tested])
    return rows


def _shared(group: Group) -> dict[str, Setting]:
    """The options that a run with Sup-tickets has in common with the one without."""
    return {name: value for name, value in group.about.options.items() if name not in OF_SUP_TICKETS}
