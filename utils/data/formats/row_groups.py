"""Parquet files that are read a row group at a time, on the Hub or a disk, without a copy of them.

The least that can be read is a row group, some hundred images. The footers of the files say how many there are.
"""

import itertools
import json
import os
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import datasets
import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from sparselearning.errors import UsageError
from utils.data.folders import split_named
from utils.data.formats.tables import columns
from utils.data.rows import EncodedRows, check_labels
from utils.files.errors import DamagedImageError, explained

File = tuple[fsspec.AbstractFileSystem, str]
FOOTERS, GROUPS = 16, 4  # that are read at the same time, by a process and by a worker


@dataclass
class RowGroups(EncodedRows):
    """One split, whose images can be read and whose labels are known once they are fetched.

    Attributes:
        image, label: names of the columns.
        groups: file and number of each row group.
        starts: its first row, and at the end the number of rows.
    """

    files: list[File]
    footers: list[pq.FileMetaData]
    image: str
    label: str

    def __post_init__(self) -> None:
        sizes = [[footer.row_group(i).num_rows for i in range(footer.num_row_groups)] for footer in self.footers]
        self.groups = [(file, i) for file, own in enumerate(sizes) for i in range(len(own))]
        self.starts = np.cumsum([0, *itertools.chain(*sizes)])
        self._begin()

    def _begin(self) -> None:
        """With nothing held: threads, and what they are about to read, do not come along into another process."""
        self.process, self.pool = os.getpid(), ThreadPoolExecutor(GROUPS)
        self.needed: deque[dict[int, None]] = deque()  # row groups, of each of the last calls of `fetch`
        self.held: dict[int, Future[pa.ChunkedArray]] = {}  # their images

    def __getstate__(self) -> dict[str, object]:  # where workers are spawned instead of forked
        return {**vars(self), "process": None, "pool": None, "held": {}}

    def fetch(self, rows: np.ndarray, later: np.ndarray, keep: int) -> None:
        """Make `rows` readable, begin to read what comes `later`, and forget what the last `keep` calls did not need.

        Raises:
            DamagedImageError: they cannot be read, or have no possible label.
        """
        if self.process != os.getpid():
            self._begin()
        now = self._groups_of(rows)
        self.needed.append(now | self._groups_of(later))
        while len(self.needed) > keep:
            self.needed.popleft()
        for group in self.held.keys() - set().union(*self.needed):
            self.held.pop(group).cancel()
        for group in self.needed[-1]:
            if group not in self.held:
                self.held[group] = self.pool.submit(self._load, group)
        for group in now:
            self.held[group].result()

    def _groups_of(self, rows: np.ndarray) -> dict[int, None]:
        return dict.fromkeys((np.searchsorted(self.starts, rows, side="right") - 1).tolist())

    def _load(self, group: int) -> pa.ChunkedArray:
        """The images of a row group; takes down its labels."""
        file, number = self.groups[group]
        fs, path = self.files[file]
        try:
            with fs.open(path, cache_type="none") as content:  # it would read ahead of what is asked for
                parquet = pq.ParquetFile(content, metadata=self.footers[file], pre_buffer=True)
                table = parquet.read_row_group(number, columns=[self.image, self.label])
            labels = table[self.label].to_numpy().astype(np.float64)  # a missing one is NaN
        except Exception as error:  # of the network, the disk or the file
            reason = " ".join(str(error).split()) or type(error).__name__
            raise DamagedImageError(f"cannot read {path}: {reason}; check it, and go on with --resume auto") from error
        first = int(self.starts[group])
        check_labels(labels, len(self.classes), self.where, first, DamagedImageError)
        self.labels[first : first + len(labels)] = torch.from_numpy(labels.astype(np.int64))
        return table[self.image]

    def read(self, row: int) -> bytes:
        """The encoded image; empty where there is none."""
        (group,) = self._groups_of(np.array([row]))
        cell = self.held[group].result()[row - int(self.starts[group])].as_py() or {}
        return cell.get("bytes") or b""

    def listing(self) -> bytes:
        """The sizes of all columns in all row groups."""
        groups = [footer.row_group(i) for footer in self.footers for i in range(footer.num_row_groups)]
        return json.dumps([[g.column(i).total_compressed_size for i in range(g.num_columns)] for g in groups]).encode()

    def fingerprint(self, rows: np.ndarray) -> str:
        """By the listing alone: no image is read for it."""
        return super().fingerprint(rows[:0])


def open_row_groups(
    names: Sequence[str],
    files: Mapping[str, Sequence[str]],
    where: str,
    features: datasets.Features | None,
    remedy: str,
    label_column: str | None,
) -> RowGroups:
    """The first split of `names` that is among the `files`; columns are those of the features, else of the files.

    Raises:
        UsageError: it cannot be read, is empty or does not name its classes, and what is wrong with its columns.
    """
    split = split_named(names, files, where)
    where = f"the {split} split of {where}"
    with explained(f"cannot read {where}", remedy), ThreadPoolExecutor(FOOTERS) as pool:
        opened = [fsspec.url_to_fs(file) for file in files[split]]
        footers = list(pool.map(_footer, opened))
        features = features or datasets.Features.from_arrow_schema(footers[0].schema.to_arrow_schema())
    image, label = columns(features, where, label_column)
    classes = getattr(features[label], "names", None)
    if not classes:
        raise UsageError(f"{where} does not name its classes, as --streaming needs: leave --streaming out")
    count = sum(footer.num_rows for footer in footers)
    if count == 0:
        raise UsageError(f"{where} is empty: check the data")
    return RowGroups(where, torch.full((count,), -1), list(classes), opened, footers, image, label)


def _footer(file: File) -> pq.FileMetaData:
    with file[0].open(file[1], cache_type="none") as content:
        return pq.read_metadata(content)
