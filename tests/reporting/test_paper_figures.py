"""launch/paper.csv holds the figures of the papers' tables; the papers' text, where it is at hand, has the same."""

import csv
import re
from collections import Counter
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import pytest

from utils.command_line.options import CifarOptions, ImageNetOptions
from utils.reporting.paper import FILE, Line, read_lines

TEXTS = {
    "Sup-tickets": FILE.parents[1] / "../shared/papers/sup-tickets.md",
    "FreeTickets": FILE.parents[1] / "../shared/papers/freetickets.txt",
}
NUMBER = re.compile(r"\d+\.\d+(?:±\d+\.\d+)?")
TORN = {"95.85±0.0": "95.85", "95.91±0.": "95.91"}  # deviations of which the text of Table 9 lost a digit
LINES = read_lines()
# lines of the tables whose cells the text tore apart and put together in another order
TORN_APART = {"Sup-tickets": ("1", "2", "4", "6", "14", "15", "17", "18", "19"), "FreeTickets": ("6",)}
TABLES = sorted({(line.paper, line.table) for line in LINES})


def table_text(paper: str, table: str) -> list[str]:
    """The lines of a table's text: after its caption, or of Table 20 before it."""
    path = TEXTS[paper]
    if not path.is_file():
        pytest.skip(f"{path.name} is not there")
    text = path.read_text().replace("$", "").replace("\\pm", "±").replace("\\times", "×")
    lines = re.sub(r"\s*±\s*", "±", re.sub(r"</?b>|[*{}]", "", text)).splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith(f"Table {table}:"))
    if (paper, table) == ("Sup-tickets", "20"):
        start = next(i for i in range(at, 0, -1) if lines[i].startswith("## H") or "STATISTICAL" in lines[i])
        return [line for line in lines[start:at] if not line.startswith(("P-value", "We "))]
    ends = (i for i in range(at + 1, len(lines)) if over(paper, lines[i]))
    return lines[at + 1 : next(ends, len(lines))]


def over(paper: str, line: str) -> bool:
    """Does the text go on with something else than a table?"""
    if paper == "FreeTickets":
        return bool(re.match(r"Results\.|We report|\d\.\d [A-Z]|Figure|Table \d+:|4https| ?[A-Z] [A-Z]{3,}", line))
    return line.startswith(("#", "Table ")) or (len(line) > 150 and "\t" not in line)


def figures(lines: list[str]) -> Iterator[str]:
    for line in lines:
        for torn, whole in TORN.items():
            line = line.replace(torn + "\t", whole + "\t").replace(torn + " ", whole + " ")
        yield from NUMBER.findall(re.sub(r"\((S|ρ) = 0\.\d\)|q = 0\.\d|\d\.\d+e\d+| 1\.5$", "", line))


def test_there_are_all_tables_that_a_script_makes() -> None:
    scripts = {path.name for path in FILE.parent.glob("*_table*.sh")}
    named = {("Sup-tickets" if name.startswith("sup") else "FreeTickets", str(int(re.findall(r"table(\d+)", name)[0])))
             for name in scripts}  # fmt: skip
    others = {("Sup-tickets", "16"), ("FreeTickets", "7"), ("FreeTickets", "8")}
    assert named - {*TABLES} == others, "sparsities of layers, disagreement by class, correlations: not metrics of runs"
    assert {*TABLES} - named == set()


@pytest.mark.parametrize(("paper", "table"), TABLES)
def test_the_figures_of_a_table_are_those_of_the_paper(paper: str, table: str) -> None:
    found = Counter(figures(table_text(paper, table)))
    own = [line for line in LINES if (line.paper, line.table) == (paper, table)]
    typed = Counter(line.figure for line in own if "." in line.figure)
    if (paper, table) == ("FreeTickets", "6"):  # FLOPs, one number in the paper, are in a line of either data set
        typed.subtract(x.figure for x in own if x.data == "cifar100" and x.metric.endswith("FLOPs"))
        found.subtract({"0.9": 1, "0.8": 2})  # sparsities
    if (paper, table) == ("Sup-tickets", "3"):
        found.subtract({"76.8±0.09": 1})  # of the dense network, for each sparsity
    if (paper, table) == ("Sup-tickets", "11"):
        found.subtract({"6.13": 1, "0.21": 1, "4.60": 1, "0.08": 1})  # deviations of the tickets
    assert +found == +typed and all(count >= 0 for count in found.values())


@pytest.mark.parametrize(("paper", "table"), [(x, y) for x, y in TABLES if y not in TORN_APART[x]])
def test_the_figures_of_a_line_stand_together_in_the_paper(paper: str, table: str) -> None:
    """Of lines that the text tore apart, the test above says no more than that they are there."""
    text, own = " ".join(figures(table_text(paper, table))), [x for x in LINES if (x.paper, x.table) == (paper, table)]
    for _, lines in groupby(own, lambda line: (line.model, line.method, line.variant, line.metric, line.data)):
        assert " ".join(line.figure for line in lines if "." in line.figure) in text


@pytest.mark.parametrize("line", {(x.data, x.model, x.method, x.density, x.variant): x for x in LINES}.values(),
                         ids=lambda line: f"{line.paper} {line.table} {line.words}")  # fmt: skip
def test_a_line_is_a_run(line: Line) -> None:
    """Its options are such as an entry script takes; so the report can tell which runs are like it."""
    options = line.options()
    assert isinstance(options, ImageNetOptions if line.data == "imagenet" else CifarOptions)
    assert options.sparse == (line.method != "dense")


def test_no_figure_stands_there_twice() -> None:
    with open(FILE, newline="") as file:
        keys = [tuple(row[:-2]) for row in csv.reader(file)]
    assert len(set(keys)) == len(keys)
    assert isinstance(FILE, Path)
