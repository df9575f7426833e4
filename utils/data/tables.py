"""Tables of images: which columns they have, and what their rows hold."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import datasets
import numpy as np
import pyarrow.compute as pc
import torch
from torch import Tensor

from sparselearning.errors import UsageError
from utils.command_line.errors import blame
from utils.data.folders import split_named
from utils.files.whole import read_whole

Tables = dict[str, datasets.Dataset]  # of each split
LABELS = ("fine_label", "label")  # the usual names of their column, the first that is there


@dataclass
class Table:
    """A table of the `datasets` library with a column of encoded images.

    Attributes:
        homes: the folders in which a row may name a file instead.
    """

    where: str
    homes: tuple[Path, ...]
    table: datasets.Dataset
    column: str
    labels: Tensor
    classes: list[str]

    def read(self, row: int) -> bytes:
        cell = self.table[row][self.column] or {}
        if cell.get("bytes") is None and cell.get("path"):
            return read_whole(self._at_home(cell["path"]))
        return cell.get("bytes") or b""

    def _at_home(self, path: str) -> Path:
        """Whatever a table says, no other file of this machine is read."""
        places = [(home.resolve(), (home / path).resolve()) for home in self.homes]
        place = next((place for home, place in places if place.is_relative_to(home)), None)
        if place is None:
            raise ValueError(f"it names {path}, which is not in {' or '.join(map(str, self.homes))}")
        return place

    def name(self, row: int) -> str:
        return f"row {row} of {self.where}"

    def marks(self) -> bytes:
        lengths = [pc.binary_length(pc.struct_field(c, "bytes")) for c in self.table.data[self.column].chunks]
        return b"".join(pc.fill_null(length, 0).to_numpy().tobytes() for length in lengths)


def table_of(
    tables: Tables, names: Sequence[str], where: str, homes: tuple[Path, ...], label_column: str | None = None
) -> Table:
    """The first split of `names` that is there.

    Raises:
        UsageError: there is none, and whatever is wrong with its columns or labels.
    """
    split = split_named(names, tables, where)
    where, table = f"the {split} split of {where}", tables[split]
    image, label = columns(table.features, where, label_column)
    with blame(f"cannot read {where}", "copy it again"):
        table = table.select_columns([image, label]).cast_column(image, datasets.Image(decode=False))
        labels = np.asarray(table[label][:], dtype=np.float64)  # a missing one is NaN
    classes = getattr(table.features[label], "names", None) or []
    if len(table) == 0:
        raise UsageError(f"{where} is empty: check --data-dir")
    check_labels(labels, len(classes) or None, where)
    return Table(where, homes, table, image, torch.from_numpy(labels.astype(np.int64)), list(classes))


def check_labels(
    labels: np.ndarray, count: int | None, where: str, first: int = 0, kind: type[UsageError] = UsageError
) -> None:
    """Labels of the rows from `first` on must be there (not NaN), and of `count` classes; None: of any number of them.

    Raises:
        kind: one of them is not.
    """
    if not (good := (labels >= 0) & (labels < (count or np.inf))).all():
        row = int(np.argmin(good))
        fits = f"0..{count - 1}" if count else "0 or more"
        wrong = "no label" if np.isnan(labels[row]) else f"label {labels[row]:g}, not {fits}"
        raise kind(f"row {first + row} of {where} has {wrong}: check --data, --data-dir and --label-column")


def columns(features: datasets.Features, where: str, label_column: str | None = None) -> tuple[str, str]:
    """The columns of images and labels, by type: names differ (img, image; label, fine_label), types do not.

    Files written without the `datasets` library have no feature types: then an image is a struct with bytes, and
    a label an integer.

    Raises:
        UsageError: there are none, or several that none of the usual names tells apart.
    """
    images = [c for c, f in features.items() if isinstance(f, datasets.Image) or (isinstance(f, dict) and "bytes" in f)]
    named = [c for c, f in features.items() if isinstance(f, datasets.ClassLabel)]
    whole = [c for c, f in features.items() if isinstance(f, datasets.Value) and "int" in f.dtype]
    labels = [c for c in (*named, *whole) if c == label_column] if label_column else named or whole
    words = [c for c in LABELS if c in features and c not in whole]
    if words and whole and not named and not label_column:  # the integer is a number of the row or the like
        raise UsageError(
            f"{where} has a column {words[0]} that holds no integers: convert it to 0, 1, 2, ..., or name another one "
            f"with --label-column"
        )
    what = f"labels {label_column}" if label_column else "labels"
    return (
        _choice(images, ("image", "img"), "images", features, where, "keep one of them"),
        _choice(labels, LABELS, what, features, where, "name it with --label-column"),
    )


def _choice(
    found: Sequence[str], usual: Sequence[str], what: str, features: Collection[str], where: str, remedy: str
) -> str:
    if not found:
        raise UsageError(f"{where} has no column of {what} among {', '.join(features)}: check --data-dir")
    choice = found[0] if len(found) == 1 else next((name for name in usual if name in found), None)
    if choice is None:
        raise UsageError(f"{where} has several columns that may be the {what}, {' and '.join(found)}: {remedy}")
    return choice


def refuse_column(label_column: str | None, where: str) -> None:
    """Where there is no table to name a column of."""
    if label_column is not None:
        raise UsageError(f"{where} is no table with a column {label_column}: leave out --label-column")
