"""Photographs read when they are needed from parquet files on the Hub or a disk, without a copy of them.

The least that can be read is a row group, some hundred images. So an epoch is shuffled by row groups, and by images
within a few of them at a time, and every process and worker has row groups of its own: together they read the data
about once. The footers of the files say how many images there are. The rest is as for photographs at hand: an epoch is
a permutation, here a function of (seed, epoch, --batch-size, processes), and a run can stop between any two steps.
"""

import functools
import itertools
import json
import os
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import datasets
import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor
from torch.utils.data import get_worker_info

from sparselearning.errors import UsageError
from utils.command_line.errors import DamagedImageError, blame
from utils.command_line.options import ImageNetOptions
from utils.data.folders import TRAIN, existing, parquet_files, split_named
from utils.data.imagenet import Draw, PhotoSet, Samples, Work, dice, first_rows, spare_cores
from utils.data.protocol import Splits
from utils.data.sources import TEST, fingerprint, how_to_get, keep_quiet, same_classes
from utils.data.tables import check_labels, columns

LANES = 8  # of a process: its batches draw from them in turns, so that each of up to 8 workers can have its own
WORKERS = (0, 1, 2, 4, 8)  # these share the lanes evenly
MIXED = 4, 1000  # at least so many row groups, and about so many images, are shuffled together
AHEAD = 4  # batches of a lane whose row groups are fetched before they are needed
FOOTERS, GROUPS = 16, 4  # that are read at the same time, by a process and by a worker


@functools.lru_cache(maxsize=1)
def local_permutation(starts: tuple[int, ...], chunk: int, lanes: int, draw: Draw) -> np.ndarray:
    """A permutation of the rows, int64 (starts[-1],), that needs few row groups at a time.

    Chunks of consecutive positions go round the lanes. Each lane has row groups of its own, but for those at its ends.

    Args:
        starts: the first row of each row group, and the number of rows.
    """
    rng, bounds = dice(*draw), np.array(starts)
    groups = rng.permutation(len(bounds) - 1)
    sizes = np.diff(bounds)[groups]
    rows = np.arange(bounds[-1]) + np.repeat(bounds[groups] - np.cumsum(sizes) + sizes, sizes)
    together = np.arange(len(groups)) // max(MIXED[0], round(MIXED[1] * len(groups) / len(rows)))
    mixed = rows[np.argsort(np.repeat(together, sizes) + rng.random(len(rows)))]
    order = np.empty_like(mixed)
    order[np.argsort(np.arange(len(rows)) // chunk % lanes, kind="stable")] = mixed
    return order


@dataclass
class Stream:
    """One split: `Photos` that can be read once they are fetched.

    Attributes:
        groups: file and number of each row group.
        starts: its first row, and at the end the number of rows.
        labels: int64 (N,); -1 until they are fetched.
    """

    where: str
    files: list[tuple[fsspec.AbstractFileSystem, str]]
    footers: list[pq.FileMetaData]
    image: str  # the column's name
    label: str
    classes: list[str]

    def __post_init__(self) -> None:
        sizes = [[footer.row_group(i).num_rows for i in range(footer.num_row_groups)] for footer in self.footers]
        self.groups = [(file, i) for file, own in enumerate(sizes) for i in range(len(own))]
        self.starts = np.cumsum([0, *itertools.chain(*sizes)])
        self.labels = torch.full((int(self.starts[-1]),), -1)
        self._begin()

    def _begin(self) -> None:
        """With nothing held: threads, and what they are about to read, do not come along into another process."""
        worker = get_worker_info()
        self.process, self.pool = os.getpid(), ThreadPoolExecutor(GROUPS)
        # row groups, by batch; a worker's batches come back to a lane after so many
        self.needed: deque[dict[int, None]] = deque(maxlen=LANES // worker.num_workers if worker else LANES)
        self.held: dict[int, Future[pa.ChunkedArray]] = {}  # their images

    def __getstate__(self) -> dict[str, Any]:  # where workers are spawned instead of forked
        return {**vars(self), "process": None, "pool": None, "held": {}}

    def fetch(self, rows: np.ndarray, later: np.ndarray) -> None:
        """Make `rows` readable, begin to read what comes `later`, and forget what has not been needed for a while.

        Raises:
            DamagedImageError: they cannot be read, or have no possible label.
        """
        if self.process != os.getpid():
            self._begin()
        now = self._groups_of(rows)
        self.needed.append(now | self._groups_of(later))
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

    def name(self, row: int) -> str:
        return f"row {row} of {self.where}"

    def marks(self) -> bytes:
        """The sizes of all columns in all row groups."""
        groups = [footer.row_group(i) for footer in self.footers for i in range(footer.num_row_groups)]
        return json.dumps([[g.column(i).total_compressed_size for i in range(g.num_columns)] for g in groups]).encode()


@dataclass(frozen=True)
class StreamSamples(Samples):
    """Fetches what it is asked for, and what the same worker will be asked for next."""

    photos: Stream
    starts: tuple[int, ...]  # as of `photos`, but of the rows that belong to the split
    chunk: int
    lanes: int  # of all processes

    def order(self, draw: Draw | None) -> np.ndarray:
        return self.rows if draw is None else local_permutation(self.starts, self.chunk, self.lanes, draw)

    def __getitem__(self, work: Work) -> tuple[Tensor, Tensor] | UsageError:
        start, stop, draw = work
        order, turn = self.order(draw), self.chunk * self.lanes
        turns = [order[start + i * turn : stop + i * turn] for i in range(AHEAD + 1 if draw else 1)]
        try:
            self.photos.fetch(turns[0], np.concatenate(turns))
        except UsageError as error:
            return error
        return super().__getitem__(work)


def stream_photos(args: ImageNetOptions, device: torch.device) -> Splits:
    """As `load_photos` with parquet files of `--data-dir` or the Hub, which stay where they are.

    Raises:
        UsageError: data that cannot be streamed, and options that do not go with it.
    """
    if args.valid_fraction:
        raise UsageError("--valid-fraction would read the whole stream once more an epoch: leave it or --streaming out")
    if args.workers not in (None, *WORKERS):
        raise UsageError(f"--streaming takes --workers {', '.join(map(str, WORKERS))}, not {args.workers}")
    workers = min(n for n in WORKERS if n >= spare_cores()) if args.workers is None else args.workers
    lanes = LANES * int(os.environ.get("WORLD_SIZE", 1))
    train, test = open_streams(args.data, args.data_dir, args.label_column)

    def photo_set(stream: Stream, limit: int | None, stay: bool) -> PhotoSet:
        rows = first_rows(stream, limit)
        starts = (*stream.starts[stream.starts < len(rows)].tolist(), len(rows))
        samples = StreamSamples(stream, rows, args.image_size, starts, args.batch_size, lanes)
        return PhotoSet(samples, len(stream.classes), device, workers, stay)

    sets = photo_set(train, args.limit_train, stay=True), None, photo_set(test, args.limit_test, stay=False)
    prints = " ".join(fingerprint(split, np.arange(0)) for split in (train, test))  # without a look at the images
    return Splits(*sets, len(train.classes), fingerprint=prints)


def open_streams(name: str, data_dir: str | None, label_column: str | None = None) -> tuple[Stream, Stream]:
    """Training and test photographs: those of the folder `data_dir`, or of the Hub's data set `name`."""
    keep_quiet()
    features = None
    if data_dir is None:
        where, remedy = name, how_to_get(name)
        with blame(f"cannot get {name} from the Hub", remedy):
            builder = datasets.load_dataset_builder(name)
            features = builder.info.features
            files: dict[str, list[str]] = {str(split): list(urls) for split, urls in builder.config.data_files.items()}
    else:
        where, remedy = str(existing(data_dir)), "copy it again"
        files = parquet_files(existing(data_dir))
    if not files or not all(file.endswith(".parquet") for file in itertools.chain(*files.values())):
        raise UsageError(
            f"--streaming reads parquet files, which tell the number of their images, and {where} has none: leave "
            + ("--streaming out" if data_dir else f"--streaming out, or {remedy}")
        )
    train, test = (_open(names, files, where, features, remedy, label_column) for names in (TRAIN, TEST))
    same_classes(train, test, where)
    return train, test


def _open(
    names: Sequence[str],
    files: dict[str, list[str]],
    where: str,
    features: datasets.Features | None,
    remedy: str,
    label_column: str | None,
) -> Stream:
    split = split_named(names, files, where)
    where = f"the {split} split of {where}"
    with blame(f"cannot read {where}", remedy), ThreadPoolExecutor(FOOTERS) as pool:
        opened = [fsspec.url_to_fs(file) for file in files[split]]
        footers = list(pool.map(_footer, opened))
        features = features or datasets.Features.from_arrow_schema(footers[0].schema.to_arrow_schema())
    image, label = columns(features, where, label_column)
    classes = getattr(features[label], "names", None)
    if not classes:
        raise UsageError(f"{where} does not name its classes, as --streaming needs: leave --streaming out")
    stream = Stream(where, opened, footers, image, label, list(classes))
    if len(stream.labels) == 0:
        raise UsageError(f"{where} is empty: check the data")
    return stream


def _footer(file: tuple[fsspec.AbstractFileSystem, str]) -> pq.FileMetaData:
    with file[0].open(file[1], cache_type="none") as content:
        return pq.read_metadata(content)
