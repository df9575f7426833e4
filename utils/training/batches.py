"""How an epoch is cut into the batches of optimizer steps, and a batch into parts for processes and backward passes."""

from dataclasses import dataclass

from torch import nn

from sparselearning.errors import UsageError
from utils.command_line.options import Options
from utils.data.protocol import Range


@dataclass(frozen=True)
class Batches:
    """The batches of an epoch.

    Attributes:
        images: of an epoch.
        size: images of an optimizer step, in all its parts.
        parts: backward passes that share a batch, those of all processes together.
        steps: optimizer steps of an epoch.
    """

    images: int
    size: int
    parts: int
    steps: int

    def images_of(self, position: int) -> int:
        """The size of the batch at a position of the epoch: the last may be smaller, or none of it left."""
        return min(self.size, self.images - position * self.size)

    def images_before(self, position: int) -> int:
        """The images of all batches before this position."""
        return min(position * self.size, self.images)

    def parts_of(self, position: int, rank: int, processes: int) -> list[Range]:
        """What the process `rank` takes of a batch: one of its equal parts for each backward pass."""
        start, size = position * self.size, self.images_of(position)
        cuts = [start + size * part // self.parts for part in range(self.parts + 1)]
        return [(cuts[part], cuts[part + 1]) for part in range(rank, self.parts, processes)]


def make_batches(options: Options, model: nn.Module, images: int, processes: int) -> Batches:
    """The batches of a run: in a step each process makes its backward passes, of `--batch-size` images each.

    Raises:
        UsageError: the images fill no batch, or the model's batch norm would see one at a time.
    """
    norm = nn.modules.batchnorm._NormBase
    if options.batch_size == 1 and any(isinstance(module, norm) for module in model.modules()):
        raise UsageError("--batch-size 1 leaves batch norm no batch to normalize by: use 2 or more")
    parts = processes * options.gradient_accumulation_steps
    size = options.batch_size * parts
    return Batches(images, size, parts, count_steps(images, size, parts))


def count_steps(images: int, batch_size: int, parts: int) -> int:
    """Batches of an epoch; a rest of less than half a batch is left out.

    It would be the last that batch norm sees before a ticket is taken, and worth a tenth of its running statistics. The
    number of parts makes no difference, except where a part has fewer than 4 images: then a rest must have the 2 for
    each that batch norm needs. Images that fill no batch are one.

    Raises:
        UsageError: they are too few for that.
    """
    steps, rest = divmod(images, batch_size)
    steps += rest >= max(2 * parts, batch_size / 2 if steps else 0)
    if steps == 0:
        raise UsageError(f"{images} training images do not fill a batch in {parts} parts: use a smaller --batch-size")
    return steps
