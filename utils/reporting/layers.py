"""The sparsity of every layer, as in Table 16 of Sup-tickets: where a method leaves its connections."""

import re
from collections.abc import Sequence
from itertools import groupby
from statistics import fmean

from sparselearning.errors import UsageError
from utils.reporting.groups import Group


def stage(name: str) -> str:
    """Of layer1.0.conv1.weight it is layer1, of stages.0.0.conv1.weight stages.0, of conv1.weight conv1."""
    return "".join(re.findall(r"^(?:[^.]*[^.\d]\.\d+(?=\.\d)|[^.]+)", name))


def layers(groups: Sequence[Group], options: Sequence[str]) -> list[list[str]]:
    """The table as cells: all layers, all but the last, every stage and its layers; a column per group.

    Args:
        options: those that tell groups apart.

    Raises:
        UsageError: the runs are not of one network, or of an older version that did not tell the sizes of layers.
    """
    summaries = [group.runs[0].summary for group in groups]
    if not all("weights_per_layer" in summary for summary in summaries):
        raise UsageError("--layers needs summaries with weights_per_layer, which runs of older versions do not have")
    size, flops = summaries[0]["weights_per_layer"], summaries[0]["flops_per_layer"]
    if any(summary["weights_per_layer"] != size for summary in summaries):
        raise UsageError("--layers needs runs of one network: give those of one model, width and data set")
    names = list(size)
    parts = {"all layers": names, f"all but {names[-1]}": names[:-1]}
    for title, members in groupby(names, stage):
        inside = list(members)
        parts |= ({f"{title}, all": inside} if len(inside) > 1 else {}) | {name: [name] for name in inside}
    rows = [["layer", "weights", "dense FLOPs", *(", ".join(filter(None, group.names(options))) for group in groups)]]
    for title, part in parts.items():
        weights = sum(size[name] for name in part)
        rows.append([title, f"{weights:,}", f"{sum(flops[name] for name in part):,.0f}"])
        for group in groups:
            kept = fmean(sum(run.summary["nnz_per_layer"][name] for name in part) for run in group.runs)
            rows[-1].append(f"{100 * (1 - kept / weights):.2f} %")
    return rows
