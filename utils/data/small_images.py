"""A split of small images: bytes in the memory of the device, cropped and flipped there in batches.

Fifty thousand padded images are 240 MB: they fit on any device, and a batch is one gather from them. There is no
loader to feed and no worker whose random state could be lost.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from utils.data.protocol import Batch, Range
from utils.data.recipes import PAD


@dataclass(frozen=True)
class SmallImages:
    """`Images`. With `flip` False and `shift` 0 its epochs are shuffled but not augmented."""

    images: Tensor  # uint8 (N, side + 8, side + 8, 3), zero-padded by PAD
    labels: Tensor  # int64 (N,)
    mean: Tensor  # float32 (3, 1, 1), in units of 0..1
    std: Tensor
    num_classes: int
    flip: bool
    shift: int

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def side(self) -> int:
        """Pixels of a side, without the padding."""
        return self.images.shape[1] - 2 * PAD

    @property
    def on_device(self) -> bool:
        return True

    def epoch(self, seed: int, epoch: int) -> SmallEpoch:
        """The order and the augmentation of one epoch, drawn on the CPU so that every device sees the same."""
        n, device = len(self), self.labels.device
        generator = generator_of(f"epoch {epoch} of seed {seed}")
        order = torch.randperm(n, generator=generator)
        offsets = torch.randint(PAD - self.shift, PAD + self.shift + 1, (n, 2), generator=generator)
        flips = torch.randint(2, (n,), generator=generator).bool() & self.flip
        return SmallEpoch(self, order.to(device), offsets.to(device), flips.to(device))

    def clean_batch(self, start: int, stop: int) -> Batch:
        """Samples start..stop-1 as stored, centered: float32 (B, 3, side, side) in channels_last memory, int64 (B,)."""
        center = slice(PAD, PAD + self.side)
        return self.normalize(self.images[start:stop, center, center]), self.labels[start:stop]

    def clean_batches(self, ranges: Iterable[Range]) -> Iterator[Batch]:
        """The clean batch of each (start, stop)."""
        return (self.clean_batch(start, stop) for start, stop in ranges)

    def normalize(self, pixels: Tensor) -> Tensor:
        """Bytes (B, H, W, 3) to float32 (B, 3, H, W); NHWC seen as NCHW is channels_last, so nothing is moved."""
        x = pixels.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.channels_last)
        mean, std = self._scale
        return x.sub_(mean).div_(std)

    # what every batch needs is made once: on a GPU each operator of a step counts

    @cached_property
    def _scale(self) -> tuple[Tensor, Tensor]:
        """Mean and deviation in units of 0..255."""
        return 255 * self.mean, 255 * self.std

    @cached_property
    def spans(self) -> tuple[Tensor, Tensor]:
        """The pixels of a row, and those of a mirrored one: int64 (side,)."""
        span = torch.arange(self.side, device=self.labels.device)
        return span, span.flip(0)


@dataclass(frozen=True)
class SmallEpoch:
    """`Epoch` over `data`: at position i comes image order[i], cropped at offsets[i] and mirrored if flips[i]."""

    data: SmallImages
    order: Tensor  # int64 (N,), a permutation
    offsets: Tensor  # int64 (N, 2), first row and first column of the crop in the padded image
    flips: Tensor  # bool (N,)

    def __len__(self) -> int:
        return len(self.order)

    def batch(self, start: int, stop: int) -> Batch:
        """Positions start..stop-1: float32 (B, 3, side, side) in channels_last memory, and labels, int64 (B,).

        Any cut of the epoch into ranges gives the same samples with the same crops.
        """
        here = slice(start, stop)
        sample = self.order[here]
        span, mirrored = self.data.spans
        rows = self.offsets[here, :1] + span
        columns = self.offsets[here, 1:] + torch.where(self.flips[here, None], mirrored, span)
        pixels = self.data.images[sample[:, None, None], rows[:, :, None], columns[:, None, :]]
        return self.data.normalize(pixels), self.data.labels[sample]

    def batches(self, ranges: Iterable[Range]) -> Iterator[Batch]:
        """The batch of each (start, stop)."""
        return (self.batch(start, stop) for start, stop in ranges)


def generator_of(key: str) -> torch.Generator:
    """A CPU generator of its own for every key. torch would drop all but 32 bits of a longer seed, so we hash to 32."""
    return torch.Generator().manual_seed(zlib.crc32(key.encode()))
