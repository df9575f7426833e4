"""What training and evaluation see of data: splits of images, and epochs over them, whatever their size and source."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor

from sparselearning.errors import UsageError
from utils.data.recipes import Preprocessing

Range = tuple[int, int]  # positions start..stop-1
# normalized, float32 (B, 3, side, side) in channels_last memory, and labels, int64 (B,); both on the device
Batch = tuple[Tensor, Tensor]


class Epoch(Protocol):
    """One pass over a split: its images in random order, each with its augmentation.

    It is a pure function of seed and epoch. Any cut of it into ranges gives the same images, cropped and mirrored in
    the same way: a run can stop and resume between any two steps, and any number of processes, workers and accumulation
    steps can share a batch.
    """

    def __len__(self) -> int:
        """The number of images."""

    def batch(self, start: int, stop: int) -> Batch:
        """Positions start..stop-1."""

    def batches(self, ranges: Iterable[Range]) -> Iterator[Batch]:
        """The batch of each (start, stop)."""


class Images(Protocol):
    """One split."""

    @property
    def labels(self) -> Tensor:
        """int64 (N,); -1 where a stream has not read them yet."""

    @property
    def num_classes(self) -> int: ...

    @property
    def side(self) -> int:
        """Pixels of a side of the images that the network sees."""

    @property
    def mean(self) -> Tensor:
        """Of the channels, in units of 0..1, by which batches are normalized: float32 (3, 1, 1) on the device."""

    @property
    def std(self) -> Tensor:
        """Likewise the deviation."""

    @property
    def on_device(self) -> bool:
        """Are all images on the device, so that a batch keeps nobody waiting?"""

    def __len__(self) -> int:
        """The number of images."""

    def clean_batch(self, start: int, stop: int) -> Batch:
        """Images start..stop-1 in stored order, without augmentation."""

    def clean_batches(self, ranges: Iterable[Range]) -> Iterator[Batch]:
        """The clean batch of each (start, stop)."""

    def epoch(self, seed: int, epoch: int) -> Epoch:
        """The order and the augmentation of one epoch."""


@dataclass(frozen=True)
class Splits:
    """`valid` is held out of the training set for tuning; `test` is for the numbers that are reported.

    Attributes:
        about: what a ticket has to say of them, for others to see them alike.
        fingerprint: tells these images from others.
        classes: a name per label; empty where the source does not tell.

    Raises:
        UsageError: the training or the test split is empty.
    """

    train: Images
    valid: Images | None
    test: Images
    num_classes: int
    about: Preprocessing = field(default_factory=Preprocessing)
    fingerprint: str = ""
    classes: Sequence[str] = ()

    def __post_init__(self) -> None:
        for name, images in (("training", self.train), ("test", self.test)):
            if len(images) == 0:
                raise UsageError(f"there are no {name} images: check the data")
