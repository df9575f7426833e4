"""The order in which large images are streamed from parquet files, which stay where they are.

The least that can be read is a row group, some hundred images. So an epoch is shuffled by row groups, and by images
within a few of them at a time, and every process and worker has row groups of its own: together they read the data
about once. The rest is as for images at hand: an epoch is a permutation, here a function of (seed, epoch, --batch-size,
processes), and a run can stop between any two steps.
"""

import functools
import os
from dataclasses import dataclass

import numpy as np
from torch.utils.data import get_worker_info

from sparselearning.errors import UsageError
from utils.data.augmentation import Key, generator
from utils.data.formats.row_groups import RowGroups
from utils.data.large_images import Loaded, Request, Samples

QUEUES = 8  # of a process: its batches come from them in turns, so that each of up to 8 workers can have its own
WORKERS = (0, 1, 2, 4, 8)  # these share the queues evenly
MIXED = 4, 1000  # at least so many row groups, and about so many images, are shuffled together
AHEAD = 4  # batches of a queue whose row groups are fetched before they are needed


@functools.lru_cache(maxsize=1)
def local_permutation(starts: tuple[int, ...], chunk: int, queues: int, key: Key) -> np.ndarray:
    """A permutation of the rows, int64 (starts[-1],), that needs few row groups at a time.

    Chunks of consecutive positions come from the queues in turns. Each queue has row groups of its own, but for those
    at its ends.

    Args:
        starts: the first row of each row group, and the number of rows.
    """
    rng, bounds = generator(*key), np.array(starts)
    groups = rng.permutation(len(bounds) - 1)
    sizes = np.diff(bounds)[groups]
    rows = np.arange(bounds[-1]) + np.repeat(bounds[groups] - np.cumsum(sizes) + sizes, sizes)
    together = np.arange(len(groups)) // max(MIXED[0], round(MIXED[1] * len(groups) / len(rows)))
    mixed = rows[np.argsort(np.repeat(together, sizes) + rng.random(len(rows)))]
    order = np.empty_like(mixed)
    order[np.argsort(np.arange(len(rows)) // chunk % queues, kind="stable")] = mixed
    return order


@dataclass(frozen=True)
class StreamedSamples(Samples):
    """Fetches what it is asked for, and what the same worker will be asked for next."""

    rows: RowGroups
    starts: tuple[int, ...]  # as of `rows`, but of those that belong to the split
    chunk: int
    queues: int  # of all processes

    def order(self, key: Key | None) -> np.ndarray:
        return self.index if key is None else local_permutation(self.starts, self.chunk, self.queues, key)

    def __getitem__(self, request: Request) -> Loaded:
        start, stop, key = request
        order, turn = self.order(key), self.chunk * self.queues
        turns = [order[start + i * turn : stop + i * turn] for i in range(AHEAD + 1 if key else 1)]
        worker = get_worker_info()
        try:  # after so many batches a worker comes back to the same queue
            self.rows.fetch(turns[0], np.concatenate(turns), keep=QUEUES // worker.num_workers if worker else QUEUES)
        except UsageError as error:
            return error
        return super().__getitem__(request)


def streamed(rows: RowGroups, index: np.ndarray, side: int, batch_size: int) -> StreamedSamples:
    """The samples of a stream's first rows, for the processes of this run."""
    starts = (*rows.starts[rows.starts < len(index)].tolist(), len(index))
    return StreamedSamples(rows, index, side, starts, batch_size, QUEUES * int(os.environ.get("WORLD_SIZE", 1)))
