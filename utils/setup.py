"""From the command line to the objects of a run: accelerator, optimizer, plan and masking."""

import argparse
import contextlib
import math
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from torch import Tensor, nn

from sparselearning.errors import UsageError
from sparselearning.masking import Masking
from sparselearning.phases import Phase, cyclic_epochs, normal_phase, sup_tickets
from utils.data import ImageSet

SNIP_IMAGES = 10  # per class, as SNIP's authors use
UPDATES = 20  # topology updates of a run too short for ΔT = 1000


@contextlib.contextmanager
def one_line_errors() -> Iterator[None]:
    """The user's mistakes end the program with one line on stderr and status 2, without a traceback."""
    try:
        yield
        return
    except UsageError as error:
        message = str(error)
    except torch.cuda.OutOfMemoryError:
        message = (
            "the device is out of memory: use a smaller --batch-size, and a larger --gradient-accumulation-steps to "
            "keep the size of the whole batch"
        )
    if int(os.environ.get("RANK", 0)) == 0:
        print(f"{Path(sys.argv[0]).name}: {message}", file=sys.stderr)
    sys.exit(2)


def make_accelerator(args: argparse.Namespace) -> Accelerator:
    """Processes, device and precision as launched; fast kernels where they change no result that matters."""
    accelerator = Accelerator(mixed_precision=args.mixed_precision)
    if accelerator.distributed_type not in (DistributedType.NO, DistributedType.MULTI_GPU, DistributedType.MULTI_CPU):
        raise UsageError(
            f"{accelerator.distributed_type.value} shards weights over processes, but masks need them whole: launch "
            f"with plain multi-process training (DDP)"
        )
    if accelerator.mixed_precision == "fp16" and accelerator.device.type == "cpu":
        raise UsageError("fp16 needs a GPU: use --mixed-precision bf16 or no")
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.benchmark = True
    return accelerator


def make_optimizer(args: argparse.Namespace, model: nn.Module, accelerator: Accelerator) -> torch.optim.SGD:
    # a fused step hides from Masking whether the gradient scaler of fp16 skipped it
    fused = accelerator.device.type == "cuda" and accelerator.mixed_precision != "fp16"
    return torch.optim.SGD(
        model.parameters(), lr=args.lr, momentum=args.momentum, weight_decay=args.weight_decay, fused=fused
    )


def make_plan(args: argparse.Namespace, steps_per_epoch: int) -> list[Phase]:
    """The phases of the run; their lengths are whole epochs."""
    if not args.sup_tickets:
        return [normal_phase(args.epochs, steps_per_epoch, args.lr, args.lr_drops)]
    cyclic = cyclic_epochs(args.epochs, args.cycle_epochs, args.num_tickets, args.ticket_fraction)
    normal = normal_phase(args.epochs - cyclic, steps_per_epoch, args.lr, args.lr_drops)
    cycle_steps = args.cycle_epochs * steps_per_epoch
    return sup_tickets(normal, cyclic // args.cycle_epochs, cycle_steps, args.lr_low, args.lr_high, args.explore_rate)


def make_masking(
    args: argparse.Namespace,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    plan: list[Phase],
    snip: Iterable[tuple[Tensor, Tensor]],
) -> Masking | None:
    """The masks of a sparse run, None for a dense one; schedules given in parts of the run become optimizer steps."""
    if not args.sparse:
        return None
    normal_end, run_end = plan[0].end, plan[-1].end
    return Masking(
        model,
        optimizer,
        method=args.method,
        density=args.density,
        init_density=args.init_density,
        sparse_init=args.sparse_init,
        # rounded up, so that the last update is followed by a whole interval of training
        update_frequency=args.update_frequency or min(1000, math.ceil(normal_end / UPDATES)),
        prune_rate=args.prune_rate,
        prune_rate_decay=args.prune_rate_decay,
        growth=args.growth,
        prune_end=round(args.prune_end * run_end),
        total_steps=normal_end,
        exempt=args.exempt,
        snip_batches=snip,
        seed=args.seed,
    )


def count_steps(images: int, batch_size: int, parts: int) -> int:
    """Batches of an epoch; a rest too small to give every part the 2 images that batch norm needs is left out."""
    steps, rest = divmod(images, batch_size)
    steps += rest >= 2 * parts
    if steps == 0:
        raise UsageError(f"{images} training images do not fill a batch in {parts} parts: use a smaller --batch-size")
    return steps


def snip_batches(images: ImageSet) -> list[tuple[Tensor, Tensor]]:
    """The first images of an epoch that no run trains on: the same on every process."""
    order = images.epoch(seed=-1, epoch=0)
    count = min(SNIP_IMAGES * images.num_classes, len(images))
    return [order.batch(start, min(start + 100, count)) for start in range(0, count, 100)]
