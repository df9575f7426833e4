"""How fast training images are loaded: our decode, crop and flip in bytes against the classic chain of Pillow images
and float tensors, on the same files, both to normalized batches on the device."""

import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision import transforms as T

from utils.benchmarks.step import images_per_second, result
from utils.command_line.commands.benchmark import BenchmarkOptions
from utils.data.formats.image_folder import ImageFolder
from utils.data.large_images import MEAN, STD, LargeImages, Samples
from utils.data.rows import Rows, first_rows
from utils.data.sources import read_large
from utils.files.errors import DamagedImageError

IMAGES, SHAPE = 64, (375, 500)  # generated where there is no folder: the most frequent size in ImageNet

CLASSIC = T.Compose(
    [T.RandomResizedCrop(224), T.RandomHorizontalFlip(), T.ToTensor(), T.Normalize(MEAN, STD)]
)  # of torchvision's and PyTorch's own ImageNet examples


def loader(options: BenchmarkOptions) -> dict[str, float]:
    """Images per second of one core, ours and classic, in turns; the ratio is ours over classic.

    Counted is the time of the processor, so that a busy machine does not count.
    """
    threads, side = torch.get_num_threads(), options.image_size
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.data_dir
        rows = read_large("", folder)[0] if folder else generated_images(Path(scratch))
        index = first_rows(rows, min(options.batch_size, len(rows)))
        data = LargeImages(Samples(rows, index, side), 1, torch.device(options.device), workers=0)
        CLASSIC.transforms[0].size = (side, side)
        times = torch.tensor(
            [(ours(data, i), classic(data)) for i in range(options.warm_up + options.repetitions)][options.warm_up :],
            dtype=torch.float64,
        )
    torch.set_num_threads(threads)
    own, other = 1000 * times.T / len(index)  # milliseconds of an image
    return images_per_second(result(other / own, own, other), 1)


def ours(data: LargeImages, epoch: int) -> float:
    """Seconds of processor time for a batch."""
    start = time.process_time()
    data.epoch(0, epoch).batch(0, len(data))
    return time.process_time() - start


def classic(data: LargeImages) -> float:
    """Likewise."""
    start = time.process_time()
    torch.stack([classic_image(data.samples.rows, row) for row in data.samples.index]).to(data.device)
    return time.process_time() - start


def classic_image(rows: Rows, row: int) -> Tensor:
    if not isinstance(rows, ImageFolder):
        raise DamagedImageError("the loader is measured on files: give a --data-dir with train/CLASS/ and val/CLASS/")
    with open(rows.name(row), "rb") as file:
        return CLASSIC(Image.open(file).convert("RGB"))


def generated_images(folder: Path) -> ImageFolder:
    """Colored clouds with some grain, JPEG files of about 60 kB."""
    rng, (height, width) = np.random.default_rng(0), SHAPE
    paths = []
    for i in range(IMAGES):
        clouds = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)).resize((width, height))
        pixels = np.asarray(clouds) + rng.normal(0, 6, (height, width, 1))
        paths.append(str(folder / f"{i}.jpg"))
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(paths[-1], quality=90)
    return ImageFolder("generated images", torch.zeros(IMAGES).long(), ["any"], np.array(paths, dtype=np.bytes_))
