"""What a run leaves behind, to be compared bit by bit with what another leaves."""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

TIMES = ("images_per_second", "train_seconds", "seconds")  # all that may differ between two runs of the same options


def outcome(folder: Path) -> dict[str, Any]:
    """All that a finished run leaves behind, except its times."""
    state = last_state(folder)
    with open(folder / "metrics.csv") as file:
        rows = list(csv.DictReader(file))
    summary = json.loads((folder / "summary.json").read_text())
    tickets = {p.name: load_file(p) for p in [folder / "ticket.safetensors", *sorted((folder / "tickets").glob("*"))]}
    return _timeless({"state": state, "metrics.csv": rows, "summary.json": summary, "tickets": tickets})


def last_state(folder: Path) -> dict[str, Any]:
    return torch.load(max((folder / "checkpoints").glob("step-????????")) / "state.pt", weights_only=True)


def _timeless(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _timeless(item) for key, item in value.items() if key not in TIMES}
    return [_timeless(item) for item in value] if isinstance(value, list) else value


def differences(a: Any, b: Any, where: str = "") -> list[str]:
    """Where two nested structures differ, in any bit."""
    if isinstance(a, Mapping) and isinstance(b, Mapping) and a.keys() == b.keys():
        return [line for key in a for line in differences(a[key], b[key], f"{where}/{key}")]
    if isinstance(a, Sequence) and isinstance(b, Sequence) and not isinstance(a, str) and len(a) == len(b):
        return [line for i in range(len(a)) for line in differences(a[i], b[i], f"{where}/{i}")]
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        same = a.dtype == b.dtype and a.shape == b.shape and torch.equal(a, b)
        return [] if same else [f"{where}: {a.dtype} {tuple(a.shape)}, {b.dtype} {tuple(b.shape)}"]
    return [] if a == b else [f"{where}: {a!r}, {b!r}"[:300]]


def contents(folder: Path) -> dict[str, bytes]:
    """All that is in a folder, by path."""
    return {str(path): path.read_bytes() if path.is_file() else b"" for path in sorted(folder.rglob("*"))}


def assert_one_line(err: str, *parts: str) -> None:
    assert err.count("\n") == 1, err
    assert "Traceback" not in err
    assert all(part in err for part in parts), err
