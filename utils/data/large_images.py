"""A split of large images, decoded and cut by worker processes while the device computes."""

import os
import signal
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from sparselearning.errors import UsageError
from utils.data.augmentation import Key, augment, center, generator, permutation
from utils.data.protocol import Batch, Range
from utils.data.rows import Rows

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's channels, in units of 0..1

Request = tuple[int, int, Key | None]  # positions start..stop-1 of an epoch, or as stored
Loaded = tuple[Tensor, Tensor] | UsageError  # uint8 (B, side, side, 3) and labels, int64 (B,), or why there are none


@dataclass(frozen=True)
class Samples(Dataset[Loaded]):
    """What a worker process knows of a split."""

    rows: Rows
    index: np.ndarray  # int64 (N,), the rows that belong to the split
    side: int  # pixels

    def order(self, key: Key | None) -> np.ndarray:
        """The index in the order of an epoch, or as stored."""
        return self.index if key is None else self.index[permutation(len(self.index), *key)]

    def clean(self, row: int) -> Tensor:
        """An image without augmentation: bytes (side, side, 3)."""
        return center(self.rows.pixels(row), self.side)

    def __getitem__(self, request: Request) -> Loaded:
        """An error is returned, for a traceback would wrap it if it were raised."""
        start, stop, key = request
        numbers = self.order(key)[start:stop]
        batch = torch.empty(len(numbers), self.side, self.side, 3, dtype=torch.uint8)
        try:
            for i, row in enumerate(numbers.tolist()):
                if key is None:
                    batch[i] = self.clean(row)
                else:
                    batch[i] = augment(self.rows.pixels(row), self.side, generator(*key, start + i))
        except UsageError as error:
            return error
        return batch, self.rows.labels[numbers]


def ignore_group_signals(worker: int) -> None:
    """Signals often go to a whole group of processes; they are meant for the one that saves a checkpoint first."""

    def wait() -> None:
        while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
            pass
        os._exit(0)

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=wait, daemon=True).start()


class LargeImages:
    """`Images`. Epochs are shuffled and augmented; clean batches are the centers of the images.

    Args:
        workers: processes that load batches; 0: this one does.
        persistent: they are not started anew for every epoch.
        mean_std: of the channels, in units of 0..1.
    """

    def __init__(
        self,
        samples: Samples,
        num_classes: int,
        device: torch.device,
        workers: int,
        persistent: bool = False,
        mean_std: tuple[Sequence[float], Sequence[float]] = (MEAN, STD),
    ) -> None:
        self.samples, self.num_classes, self.device = samples, num_classes, device
        self.mean, self.std = (torch.tensor(value, device=device).view(3, 1, 1) for value in mean_std)
        mean, std = (255 * torch.tensor(value, device=device).repeat(samples.side) for value in mean_std)
        self.scale, self.shift = 1 / std, -mean / std  # for a row of pixels, so that whole rows are vectors
        self.requests: list[Request] = []
        self.turn = 0
        self.loader: DataLoader[Loaded] = DataLoader(
            self.samples,
            batch_size=None,  # a sample of it is a whole batch already
            sampler=self.requests,
            num_workers=workers,
            worker_init_fn=ignore_group_signals,
            persistent_workers=persistent and workers > 0,
            pin_memory=device.type == "cuda",
            generator=torch.Generator(),  # or it would draw from the one of the run
        )

    def __len__(self) -> int:
        return len(self.samples.index)

    @property
    def side(self) -> int:
        return self.samples.side

    @property
    def on_device(self) -> bool:
        return False

    @property
    def labels(self) -> Tensor:
        """int64 (N,); -1 where they are not known yet."""
        return self.samples.rows.labels[self.samples.index]

    def epoch(self, seed: int, epoch: int) -> "LargeEpoch":
        """The order and the augmentation of one epoch."""
        return LargeEpoch(self, (seed, epoch))

    def clean_batch(self, start: int, stop: int) -> Batch:
        """Images start..stop-1: float32 (B, 3, side, side) in channels_last memory, int64 (B,)."""
        return self.to_device(self.samples[start, stop, None])

    def clean_batches(self, ranges: Iterable[Range]) -> Iterator[Batch]:
        """The clean batch of each (start, stop)."""
        return self.load([(start, stop, None) for start, stop in ranges])

    def load(self, requests: list[Request]) -> Iterator[Batch]:
        """The batches, prepared ahead by the workers; one such stream at a time."""
        self.requests[:] = requests
        self.turn = turn = self.turn + 1
        try:
            stream = iter(self.loader)
            for _ in requests:
                assert turn == self.turn, "another stream of batches has taken the workers"
                yield self.to_device(next(stream))
        except RuntimeError as error:
            if "DataLoader worker" not in str(error):
                raise
            raise UsageError(
                "a process that loads images has died: give the machine more memory (in a container also shared "
                "memory, as with docker --shm-size), or use --workers 0"
            ) from error

    def to_device(self, batch: Loaded) -> Batch:
        """Bytes to the device, and normalized there; what is NHWC seen as NCHW is channels_last: nothing is moved."""
        if isinstance(batch, UsageError):
            raise batch
        pixels, labels = (tensor.to(self.device, non_blocking=True) for tensor in batch)
        rows = pixels.flatten(2).float().mul_(self.scale).add_(self.shift)
        return rows.view(pixels.shape).permute(0, 3, 1, 2), labels


@dataclass(frozen=True)
class LargeEpoch:
    """`Epoch` over `data`."""

    data: LargeImages
    key: Key

    def __len__(self) -> int:
        return len(self.data)

    def batch(self, start: int, stop: int) -> Batch:
        """Positions start..stop-1: float32 (B, 3, side, side) in channels_last memory, and labels, int64 (B,).

        Any cut of the epoch into ranges gives the same samples with the same crops.
        """
        return self.data.to_device(self.data.samples[start, stop, self.key])

    def batches(self, ranges: Iterable[Range]) -> Iterator[Batch]:
        """The batch of each (start, stop)."""
        return self.data.load([(start, stop, self.key) for start, stop in ranges])
