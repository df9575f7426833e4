"""The report's table, and its refusals."""

from functools import partial

import pytest

from tests.commands import refused_by, run_command
from utils.report import main


@pytest.fixture
def table(capsys):
    """Call it with a command line: returns the rows of the table, each {column: cell}."""

    def read(*argv: object) -> list[dict[str, str]]:
        run_command(main, *argv)
        printed, _, costs = capsys.readouterr().out.partition("\n\n")
        assert costs.startswith("FLOPs (")
        lines = [line.strip("| \n").split(" | ") for line in printed.splitlines()]
        header, rule, *rows = [[cell.strip() for cell in line] for line in lines]
        assert all(set(cell) == {"-"} for cell in rule)
        return [dict(zip(header, row, strict=True)) for row in rows]

    return read


@pytest.fixture
def refused():
    """Call it with a command line that is wrong: returns the one line on stderr."""
    return partial(refused_by, main)
