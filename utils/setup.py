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

UPDATES = 20  # topology updates of a run too short for ΔT = 1000


@contextlib.contextmanager
def one_line_errors() -> Iterator[None]:
    """The user's mistakes end the program with one line on stderr and status 2, without a traceback."""
    try:
        yield
    except UsageError as error:
        if int(os.environ.get("RANK", 0)) == 0:
            print(f"{Path(sys.argv[0]).name}: {error}", file=sys.stderr)
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
    snip_batches: Iterable[tuple[Tensor, Tensor]],
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
        snip_batches=snip_batches,
        seed=args.seed,
    )
