"""Other test sets for networks that are trained already: their images come cut and normalized as those know them.

They are read, and where need be changed, batch by batch: of a million images only a few are in memory at a time.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from sparselearning.errors import UsageError
from utils.data.augmentation import center, generator
from utils.data.decoding import resize
from utils.data.folders import existing
from utils.data.formats.image_folder import is_class_folders, read_class_folders
from utils.data.large_images import LargeImages, Samples
from utils.data.protocol import Images
from utils.data.recipes import PAD, RECIPES, Recipe
from utils.data.rows import Pixels, Rows, first_rows
from utils.data.small_images import SmallImages
from utils.data.sources import read_large, read_small

IMAGENET = 1000  # classes, which have the order of their folders everywhere
Change = Callable[[np.ndarray, int], np.ndarray]  # bytes (side, side, 3) of an image and its row: bytes of that shape


@dataclass(frozen=True)
class CleanSamples(Samples):
    """Images without augmentation.

    Attributes:
        large: is the center of an image cut out, and not the whole of it resized?
        ready: are images that have the side left as they are?
        change: of an image that was cut.
    """

    large: bool
    ready: bool = True
    change: Change | None = None

    def clean(self, row: int) -> Tensor:
        pixels, side = self.rows.pixels(row), self.side
        height, width = pixels.shape[:2]
        if not (self.ready and height == width == side):
            pixels = center(pixels, side) if self.large else resize(pixels, (0, 0, height, width), side, side)
        return pixels if self.change is None else torch.from_numpy(self.change(pixels.numpy(), row))


@dataclass
class NoiseRows(Rows):
    """Gaussian noise of mean 1/2 and deviation 1/4, clipped to [0, 1]: that of FreeTickets' code, `ood_gaussion`."""

    side: int

    def pixels(self, row: int) -> Tensor:
        values = generator(0, 0, row).normal(0.5, 0.25, (self.side, self.side, 3))
        return torch.from_numpy((255 * values.clip(0, 1)).round().astype(np.uint8))


@dataclass(frozen=True)
class OtherSets:
    """Test sets like the test images of a network.

    Attributes:
        test: those images.
        classes: their names in the order of labels; empty where the source does not tell.
        workers: processes that load and change images; 0: this one does.
        limit: of the images of a set; None: there is none.
    """

    test: Images
    classes: Sequence[str]
    workers: int
    limit: int | None = None

    def images(self, rows: Rows, index: np.ndarray | None = None) -> Images:
        """The rows of an index, int64 (N,); None: the first of them, up to the limit."""
        if index is None:
            index = first_rows(rows, self.limit and min(self.limit, len(rows)))
        return self._load(CleanSamples(rows, index, self.test.side, isinstance(self.test, LargeImages)))

    def changed(self, change: Change) -> Images:
        """The test images themselves, changed after they are cut."""
        if isinstance(self.test, LargeImages):
            own = self.test.samples
            return self._load(CleanSamples(own.rows, own.index, own.side, True, ready=False, change=change))
        assert isinstance(self.test, SmallImages)
        inside = slice(PAD, PAD + self.test.side)
        pixels = self.test.images[:, inside, inside].cpu().numpy()
        rows = Pixels("the test images", self.test.labels.cpu(), [], pixels)
        return self._load(CleanSamples(rows, np.arange(len(rows)), self.test.side, False, change=change))

    def noise(self) -> Images:
        """As many images of noise as there are test images."""
        count = len(self.test)
        rows = NoiseRows("noise", torch.zeros(count, dtype=torch.int64), [], self.test.side)
        return self.images(rows, np.arange(count))

    def read(self, name: str, data_dir: str | None) -> Rows:
        """The test split of a data set in any form, or all images of a folder that has a folder per class alone.

        Raises:
            UsageError: it cannot be read, or there is none of this name.
        """
        if data_dir is not None and is_class_folders(existing(data_dir)):
            return read_class_folders(existing(data_dir))
        if isinstance(self.test, LargeImages) and name not in RECIPES:
            return read_large(name, data_dir)[1]
        return read_small(name, data_dir, replace(RECIPES.get(name, Recipe()), native=None))[1]

    def labels_of(self, rows: Rows) -> Tensor:
        """int64 (classes of the rows,): which class of the network each of theirs is.

        Raises:
            UsageError: a class has no counterpart.
        """
        own = {name: label for label, name in enumerate(self.classes)}
        if unknown := [name for name in rows.classes if name not in own]:
            if self.test.num_classes == len(rows.classes) == IMAGENET:  # which the Hub calls by other words
                return torch.arange(IMAGENET)
            raise UsageError(
                f"{rows.where} has class {unknown[0]}, which is none of those of the network: give --data-dir a folder "
                f"whose classes have the same names, such as ImageNet's train/{unknown[0]}/ and val/{unknown[0]}/"
            )
        return torch.tensor([own[name] for name in rows.classes])

    def _load(self, samples: CleanSamples) -> LargeImages:
        test = self.test
        mean_std = test.mean.flatten().tolist(), test.std.flatten().tolist()
        return LargeImages(samples, test.num_classes, test.mean.device, self.workers, mean_std=mean_std)
