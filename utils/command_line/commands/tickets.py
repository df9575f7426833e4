"""The tickets that a command takes, and what they are of."""

from dataclasses import dataclass
from pathlib import Path

from utils.command_line.paths import place
from utils.command_line.rows import Group, count, option, required


@dataclass(frozen=True, kw_only=True)
class TicketFileOptions(Group):
    """tickets: What is taken, and the data and the model that it is of."""

    tickets: tuple[Path, ...] = required("safetensors files", metavar="FILE")
    data: str | None = option(None, "as main_cifar.py takes it (what the tickets say)", metavar="NAME")
    data_dir: str | None = option(None, "read the data here instead of from the Hub", metavar="FOLDER", read=place)
    model: str | None = option(None, "(what the tickets say)", metavar="NAME")
    limit_test: int | None = option(None, "use the first N test images only", metavar="N", fits=count(10**9))
    json: Path | None = option(None, "write the numbers here", metavar="FILE")
