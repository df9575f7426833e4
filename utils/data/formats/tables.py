"""Tables of images, of parquet files, `save_to_disk` or the Hub: which columns they have, and what their rows hold."""

import glob
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import datasets
import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch

from sparselearning.errors import UsageError
from utils.data.folders import TRAIN, check_file, split_named
from utils.data.rows import EncodedRows, check_labels, same_classes
from utils.files.errors import explained
from utils.files.whole import read_whole

Tables = dict[str, datasets.Dataset]  # of each split
LABELS = ("fine_label", "label")  # the usual names of their column, the first that is there


@dataclass
class Table(EncodedRows):
    """A table of the `datasets` library with a column of encoded images.

    Attributes:
        homes: the folders in which a row may name a file instead.
    """

    homes: tuple[Path, ...]
    table: datasets.Dataset
    column: str

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

    def listing(self) -> bytes:
        lengths = [pc.binary_length(pc.struct_field(c, "bytes")) for c in self.table.data[self.column].chunks]
        return b"".join(pc.fill_null(length, 0).to_numpy().tobytes() for length in lengths)


def saved_tables(folder: Path) -> Tables:
    """A DatasetDict that was saved with `save_to_disk`."""
    for path in folder.rglob("*"):
        if not path.is_dir():
            check_file(path)
    with explained(f"cannot read {folder}", "save it again with save_to_disk"):
        return dict(datasets.DatasetDict.load_from_disk(str(folder)))


def in_memory(files: Mapping[str, Sequence[str]]) -> Tables:
    """Parquet files read straight into memory: unlike `on_disk`, this leaves no second copy in the user's cache."""
    tables = {}
    for split, names in files.items():
        parts = []
        for name in names:
            with explained(f"cannot read {name}", "copy it again"):
                parts.append(datasets.Dataset(pq.read_table(name)))
        where = Path(names[0]).parent
        with explained(f"the {split} files of {where} do not fit together", "keep the files of one data set there"):
            tables[split] = datasets.concatenate_datasets(parts)
    return tables


def on_disk(files: Mapping[str, Sequence[str]]) -> Tables:
    """Parquet files as a copy in the user's cache, which is mapped into memory, with every row quick to reach."""
    names = {split: [glob.escape(name) for name in own] for split, own in files.items()}  # they are read as patterns
    with explained("cannot read the parquet files", "copy them again"):
        return dict(datasets.load_dataset("parquet", data_files=names))


def read_tables(
    tables: Tables, test: Sequence[str], where: str, homes: tuple[Path, ...], label_column: str | None
) -> tuple[Table, Table]:
    """The training split, and the first split of those named `test`.

    Raises:
        UsageError: there is none, and whatever is wrong with its columns or labels.
    """
    first, second = (table_of(tables, names, where, homes, label_column) for names in (TRAIN, test))
    same_classes(first, second, where)
    return first, second


def table_of(
    tables: Tables, names: Sequence[str], where: str, homes: tuple[Path, ...], label_column: str | None = None
) -> Table:
    """The first split of `names` that is there."""
    split = split_named(names, tables, where)
    where, table = f"the {split} split of {where}", tables[split]
    image, label = columns(table.features, where, label_column)
    with explained(f"cannot read {where}", "copy it again"):
        table = table.select_columns([image, label]).cast_column(image, datasets.Image(decode=False))
        labels = np.asarray(table[label][:], dtype=np.float64)  # a missing one is NaN
    classes = getattr(table.features[label], "names", None) or []
    if len(table) == 0:
        raise UsageError(f"{where} is empty: check --data-dir")
    check_labels(labels, len(classes) or None, where)
    return Table(where, torch.from_numpy(labels.astype(np.int64)), list(classes), homes, table, image)


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
