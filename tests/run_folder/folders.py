"""Folders that hold what a run writes."""

from pathlib import Path
from typing import Any

import yaml

from utils.command_line.options import CifarOptions, effective
from utils.command_line.paths import EVENTS, FILES, FOLDERS

OWN = (*FILES, *FOLDERS)
EVENT_FILE = EVENTS.replace("*", "1795701063.host.1.0")
RUN = yaml.safe_dump(effective(CifarOptions()))  # what says that a folder is that of a run


def options(**given: Any) -> CifarOptions:
    return CifarOptions(**given)


def fill(path: Path, names: tuple[str, ...]) -> None:
    for name in names:
        if name in (*FILES, EVENT_FILE):
            (path / name).write_text(RUN if name == "args.yaml" else "old")
        else:
            (path / name).mkdir()
            (path / name / "old").write_text("old")


def contents(path: Path) -> dict[str, str]:
    files = (p for p in sorted(path.rglob("*")) if p.is_file() and p.name != ".lock")
    return {str(p.relative_to(path)): p.read_text() for p in files}
