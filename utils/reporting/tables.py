"""Tables as text: of models and their numbers for the screen, of anything as Markdown."""

from collections.abc import Callable, Mapping, Sequence

from utils.evaluations.columns import Column
from utils.evaluations.table import evaluated
from utils.run_folder.contents import Numbers, Results
from utils.training.metrics import DIVERSITY, METRICS, SCORE, Metric

ARROWS = {"higher": "↑", "lower": "↓"}  # which values are better


def _columns(metrics: Mapping[str, Metric | Column]) -> dict[str, tuple[str, Callable[[float], str]]]:
    return {name: (f"{metric.title} {ARROWS[metric.better]}", metric.text) for name, metric in metrics.items()}


# of `models_table`: the title of a number's column, and the number as text
COLUMNS: dict[str, tuple[str, Callable[[float], str]]] = {
    **_columns(METRICS),
    "nnz": ("nnz", "{:,d}".format),
    "density": ("density", "{:.4f}".format),
    **_columns(DIVERSITY),
    "valid_accuracy": ("validation", METRICS[SCORE].text),
    "soup_accuracy": ("with it", METRICS[SCORE].text),
    "kept": ("kept", str),
}


def results(test: Results) -> list[tuple[str, Numbers]]:
    """(name, numbers) of each model that summary.json has under `test`, in the order of the run."""
    tickets = test.get("tickets", [])
    rows = [("end of normal phase", test["normal"])] if "normal" in test else []
    rows += [("end of explore phase", test["explore"])] if "explore" in test else []
    rows += [(f"ticket {i}", numbers) for i, numbers in enumerate(tickets, 1)]
    rows += [("superposed", test["superposed"])] if "superposed" in test else []
    rows += [("ensemble", test["ensemble"])] if "ensemble" in test else []
    return [*rows] if tickets else [*rows, ("final", test["final"])]


def models_cells(first: str, rows: Sequence[tuple[str, Numbers]]) -> list[list[str]]:
    """A row per model, its name and its numbers, the header first; a column for each of COLUMNS that any model has.

    Args:
        first: the title of the column of names.
        rows: (name, {name of a number: number}), those in COLUMNS and those of EVALUATIONS are shown.
    """
    known = {**COLUMNS, **_columns(evaluated(name for _, numbers in rows for name in numbers))}
    shown = {key: column for key, column in known.items() if any(key in numbers for _, numbers in rows)}
    cells = [[first, *(title for title, _ in shown.values())]]
    for name, numbers in rows:
        cells.append([name, *(text(numbers[key]) if key in numbers else "" for key, (_, text) in shown.items())])
    return cells


def models_table(first: str, rows: Sequence[tuple[str, Numbers]]) -> str:
    """The cells of `models_cells` as lines for the screen."""
    cells = models_cells(first, rows)
    names, *widths = (max(map(len, column)) for column in zip(*cells, strict=True))
    lines = [[f"{name:<{names}s}", *map(str.rjust, values, widths)] for name, *values in cells]
    return "\n".join("  ".join(line).rstrip() for line in lines)


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells, the header first."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    ruled = [rows[0], ["-" * width for width in widths], *rows[1:]]
    return "\n".join("| " + " | ".join(map(str.ljust, row, widths)) + " |" for row in ruled)
