"""Metrics on corrupted images: cAcc, cNLL and cECE of FreeTickets, Tables 1 to 3."""

from collections.abc import Mapping
from statistics import fmean

import torch

from utils.command_line.commands.evaluate import COMPUTED, RobustnessOptions
from utils.data.corruptions import SEVERITIES, corrupted
from utils.evaluations.columns import Block, metrics_columns
from utils.evaluations.subject import Subject
from utils.training.metrics import ECE_BINS, METRICS, by_metric, calibration_gaps, per_sample, summarize, width

COLUMNS = metrics_columns("c")
Numbers = dict[str, float]


def run(subject: Subject, options: RobustnessOptions) -> list[Block]:
    """Means over corruptions and severities, of which every set counts alike, as in Uncertainty Baselines.

    `ece_pooled` is the ECE of all sets together, which FreeTickets' released code computes in its place: it is never
    larger, for what is too confident in one set and too little in another cancels. The other metrics are the same.
    """
    place = options.corruptions
    sets = corrupted(None if place == COMPUTED else place, subject.sets)
    found: list[dict[str, list[Numbers]]] = [{name: [] for name in sets} for _ in range(subject.predictors)]
    gaps, images = [torch.zeros(ECE_BINS, dtype=torch.float64) for _ in found], 0
    for number, (name, severities) in enumerate(sets.items(), 1):
        for severity, set_ in zip(SEVERITIES, severities, strict=True):
            title = f"{name} {severity} ({number} of {len(sets)} corruptions)"
            images += len(set_)
            for i, rows in enumerate(subject.measure(set_, width(METRICS), per_sample, title)):
                found[i][name].append(summarize(rows))
                gaps[i] += calibration_gaps(by_metric(rows)["ece"])
    pooled = [own.abs().sum().item() / images for own in gaps]
    return [{**_means(table, ece), "source": place} for table, ece in zip(found, pooled, strict=True)]


def _means(table: Mapping[str, list[Numbers]], pooled: float) -> Block:
    """Of {corruption: the metrics at each severity}."""
    every = [numbers for severities in table.values() for numbers in severities]
    by_name = {name: {**_mean(numbers), "severities": numbers} for name, numbers in table.items()}
    return {**_mean(every), "ece_pooled": pooled, "per_corruption": by_name}


def _mean(numbers: list[Numbers]) -> Numbers:
    return {name: fmean(row[name] for row in numbers) for name in numbers[0]}
