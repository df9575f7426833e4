"""From the command line to the objects of a run: accelerator, optimizer, plan and masking."""

import argparse
import math
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from torch import Tensor, nn

from sparselearning.errors import UsageError
from sparselearning.masking import Masking
from sparselearning.phases import Phase, cyclic_epochs, normal_phase, sup_tickets
from utils.data import ImageSet

SNIP_IMAGES = 10  # per class, as SNIP's authors use
UPDATES = 20  # topology updates of a run too short for the recipe's ΔT
SCALE = 128  # images in a batch at which --scale-lr leaves the learning rates as they are
NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


def make_accelerator(args: argparse.Namespace) -> Accelerator:
    """Processes, device and precision as launched; fast kernels where they change no result that matters."""
    # without `cpu`, processes launched on a machine without GPUs would not know of each other
    accelerator = Accelerator(mixed_precision=args.mixed_precision, cpu=not torch.accelerator.is_available())
    args.mixed_precision = accelerator.mixed_precision  # the launcher's, where the option was not given
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
    groups: list[dict[str, Any]] = [{"params": list(model.parameters())}]
    if args.norm_weight_decay is not None:
        norms = {id(p) for module in model.modules() if isinstance(module, NORMS) for p in module.parameters()}
        groups = [{"params": [p for p in model.parameters() if id(p) not in norms]}]
        groups.append({"params": [p for p in model.parameters() if id(p) in norms]})
        groups[1]["weight_decay"] = args.norm_weight_decay
    return torch.optim.SGD(groups, lr=args.lr, momentum=args.momentum, weight_decay=args.weight_decay, fused=fused)


def make_plan(args: argparse.Namespace, steps_per_epoch: int, batch_size: int) -> list[Phase]:
    """The phases of the run; their lengths are whole epochs. `batch_size` is that of all processes together."""
    scale = batch_size / SCALE if args.scale_lr else 1.0
    cyclic = 0
    if args.sup_tickets:
        cyclic = cyclic_epochs(args.epochs, args.cycle_epochs, args.num_tickets, args.ticket_fraction)
    whole = args.epochs if args.lr_parts == "run" else None
    normal = normal_phase(
        args.epochs - cyclic, steps_per_epoch, scale * args.lr, args.lr_drops, args.warmup, parts_of=whole
    )
    cycles, cycle_steps = cyclic // args.cycle_epochs, args.cycle_epochs * steps_per_epoch
    return sup_tickets(normal, cycles, cycle_steps, scale * args.lr_low, scale * args.lr_high, args.explore_rate)


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
        update_frequency=min(args.update_limit, math.ceil(normal_end / UPDATES))
        if args.update_frequency is None
        else args.update_frequency,
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


def snip_batches(images: ImageSet) -> Iterator[tuple[Tensor, Tensor]]:
    """The first images of an epoch that no run trains on: the same on every process, and only loaded if used."""
    order = images.epoch(seed=-1, epoch=0)
    count = min(SNIP_IMAGES * images.num_classes, len(images))
    return order.batches((start, min(start + 100, count)) for start in range(0, count, 100))
