"""From the command line to the objects of a run: accelerator, optimizer, the arguments of its masking, teachers."""

import copy
import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from torch import Tensor, nn

import models
from models import classifiers
from models.member_layers import fast_weights
from sparselearning.averages import PARAMETERS, option_name
from sparselearning.cpu.training import check_numba
from sparselearning.errors import UsageError
from sparselearning.flops import Counting
from sparselearning.layers import maskable_weights
from sparselearning.masking import Masking
from sparselearning.methods import METHODS
from sparselearning.options import MaskingArguments
from sparselearning.phases import Phase
from utils.command_line.options import AveragingOptions, ImageNetOptions, Options
from utils.data.protocol import Batch, Images, Splits
from utils.files.errors import explained
from utils.run_folder.finished import read_run, reading
from utils.run_folder.tickets import load_ticket
from utils.training.costs import COUNTINGS, trained_epochs
from utils.training.plan import parts_of

SNIP_IMAGES = 10  # per class, as SNIP's authors use
UPDATES = 20  # in which a run too short for the recipe's ΔT divides its first phase
EARLY = "early.safetensors"  # the weights after --save-early of a run
NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


def make_accelerator(options: Options) -> Accelerator:
    """Processes, device and precision as launched.

    Raises:
        UsageError: this launch or device does not go with the options.
    """
    accelerator = launched(options.mixed_precision)
    if accelerator.distributed_type not in (DistributedType.NO, DistributedType.MULTI_GPU, DistributedType.MULTI_CPU):
        raise UsageError(
            f"{accelerator.distributed_type.value} shards weights over processes, but masks need them whole: launch "
            f"with plain multi-process training (DDP)"
        )
    if accelerator.mixed_precision == "fp16" and accelerator.device.type == "cpu":
        raise UsageError("fp16 needs a GPU: use --mixed-precision bf16 or no")
    if options.deterministic and accelerator.device.type == "cpu":
        raise UsageError(
            "--deterministic does nothing on a CPU, where the same number of threads gives the same bits: leave it out"
        )
    if options.sparse_kernels:
        if (accelerator.device.type, accelerator.mixed_precision) != ("cpu", "no"):
            raise UsageError("--sparse-kernels is for float32 on a CPU: leave it out, or use --mixed-precision no")
        check_numba()
    choose_kernels(options.deterministic)
    return accelerator


def launched(mixed_precision: str) -> Accelerator:
    """The processes that were launched, on their devices. Raises UsageError where the environment is wrong."""
    with explained("cannot set up what the environment asks for", "unset what accelerate and torchrun would set"):
        # without `cpu`, processes launched on a machine without GPUs would not know of each other
        return Accelerator(mixed_precision=mixed_precision, cpu=not torch.accelerator.is_available())


def choose_kernels(deterministic: bool) -> None:
    """Fast kernels where they change no result that matters; or those that give the same bits in every run."""
    torch.set_float32_matmul_precision("high")
    torch.use_deterministic_algorithms(deterministic)
    torch.backends.cudnn.deterministic = deterministic
    torch.backends.cudnn.benchmark = not deterministic  # it may choose other kernels in every run
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS reads it before its first product


def make_network(options: Options, data: Splits) -> nn.Module:
    """The network of a run, initialized anew; with --efficient-ensemble one of several members."""
    side, width, ensemble = data.train.side, options.width, options.of_members
    if isinstance(options, ImageNetOptions):
        return classifiers.build(options.model, data.num_classes, side, width, ensemble)
    return models.build(options.model, data.num_classes, width, side, ensemble)


def compile_model(model: nn.Module, device: torch.device, parts: int) -> None:
    """Compile a model in place, for batches of one size.

    On a GPU its forward and its backward pass become one CUDA graph each, which the host starts in one call. A graph
    writes its outputs, gradients among them, where it wrote them the time before: so not where the gradients of
    several parts of a batch are summed.
    """
    graphs = device.type == "cuda" and parts == 1
    model.compile(mode="reduce-overhead" if graphs else None, dynamic=False)


def make_optimizer(options: Options, model: nn.Module, accelerator: Accelerator) -> torch.optim.SGD:
    """SGD with momentum; the parameters of norm layers may have a weight decay of their own.

    A BatchEnsemble's fast weights have a learning rate of their own, and no weight decay.
    """
    # a fused step hides from Masking whether the gradient scaler of fp16 skipped it
    fused = accelerator.device.type == "cuda" and accelerator.mixed_precision != "fp16"
    norms = [p for module in model.modules() if isinstance(module, NORMS) for p in module.parameters()]
    norms, fast = norms if options.norm_weight_decay is not None else [], fast_weights(model)
    apart = {id(p) for p in (*norms, *fast)}
    groups: list[dict[str, object]] = [{"params": [p for p in model.parameters() if id(p) not in apart]}]
    if options.norm_weight_decay is not None:
        groups.append({"params": norms, "weight_decay": options.norm_weight_decay})
    if fast:
        groups.append({"params": fast, "weight_decay": 0.0, "lr_part": options.fast_lr})
    sgd = {"momentum": options.momentum, "weight_decay": options.weight_decay, "fused": fused}
    return torch.optim.SGD(groups, options.lr, **sgd)


def masking_arguments(
    options: Options, model: nn.Module, phases: Sequence[Phase], steps_per_epoch: int
) -> MaskingArguments:
    """The arguments of `Masking` in a run of these phases; what the options give in parts of it, in optimizer steps.

    With `--rewind` the model gets its early weights here.
    """
    first_end = phases[0].end
    prune_ends: dict[str | None, int] = {
        "one-shot": first_end,
        "gradual": round(options.prune_end * parts_of(options) * steps_per_epoch),
    }
    # rounded up: fewer than UPDATES, the last of them ΔT before the end, or less where ΔT does not divide the phase
    frequency = min(options.update_limit, math.ceil(first_end / UPDATES))
    return {
        "method": options.method,
        "density": options.density,
        "init_density": options.init_density,
        "sparse_init": rewind(Path(options.rewind), model, options.exempt) if options.rewind else options.sparse_init,
        "update_frequency": frequency if options.update_frequency is None else options.update_frequency,
        "prune_rate": options.prune_rate,
        "prune_rate_decay": options.prune_rate_decay,
        "growth": options.growth,
        "prune_end": prune_ends.get(METHODS[options.method].pruning),
        # connections move in the phases up to the first ticket, in which gradual pruning must come to its end
        "total_steps": next((phase.end for phase in phases if phase.ticket and phase.updates), first_end),
        "exempt": options.exempt,
        "seed": options.seed,
    }


def averaging(options: AveragingOptions) -> dict[str, float]:
    """The PARAMETERS of averages, for Superposition."""
    return {name: getattr(options, option_name(name)) for name in PARAMETERS}


def check_phases(masking: Masking, phases: Sequence[Phase]) -> None:
    """Raises UsageError where the masking cannot explore as planned, or would not be at its density in a ticket."""
    for explore in (phase.explore for phase in phases if phase.explore):
        masking.check_exploration(explore.rate, explore.growth or masking.exploration_growth, explore.drop)
    first = next((phase for phase in phases if phase.ticket and phase.updates), None)
    if masking.method.pruning != "gradual" or first is None or masking.prune_end is None:
        return
    every = masking.update_frequency
    moving = [range(phase.start + every, phase.end, every) for phase in phases if phase.end <= first.end]
    last = max((steps[-1] for steps in moving if steps), default=0)
    if last < masking.prune_end:
        raise UsageError(
            f"{masking.method.title} is due at its density at step {masking.prune_end}, but the last topology update "
            f"before the first ticket is at {last}: use a smaller --update-frequency, or an earlier --prune-end"
        )


def rewind(folder: Path, model: nn.Module, exempt: Sequence[str]) -> dict[str, Tensor]:
    """Give the model the early weights of the run in a folder; returns the connections of that run's ticket.

    Raises:
        UsageError: the run kept no early weights, or is of another model.
    """
    like = model.state_dict()
    if not (folder / EARLY).is_file():
        raise UsageError(f"{folder} holds no {EARLY}: train the run to rewind with --save-early 0.05")
    ticket = load_ticket(folder / "ticket.safetensors", like)
    model.load_state_dict(load_ticket(folder / EARLY, like))
    return {name: ticket[name] != 0 for name in maskable_weights(model, exempt)}


def rewound_epochs(folder: str | None) -> dict[Counting, float]:
    """What the training of the run that is rewound cost, in epochs of dense training; nothing where none is.

    Raises:
        UsageError: that is not the folder of a finished run.
    """
    if folder is None:
        return {}
    run = read_run(path := Path(folder) / "summary.json")
    with reading(path):
        return {counting: trained_epochs(*run, counting) for counting in COUNTINGS}


def make_teachers(paths: Sequence[str], model: nn.Module) -> list[nn.Module]:
    """A model in evaluation mode for each of these tickets. Raises UsageError as `load_ticket`."""
    teachers = []
    for path in paths:
        teacher = copy.deepcopy(model).eval().requires_grad_(False)
        teacher.load_state_dict(load_ticket(Path(path), model.state_dict()))
        teachers.append(teacher)
    return teachers


def snip_batches(images: Images) -> Iterator[Batch]:
    """The first images of an epoch that no run trains on: the same on every process, and only loaded if used."""
    order = images.epoch(seed=-1, epoch=0)
    count = min(SNIP_IMAGES * images.num_classes, len(images))
    return order.batches((start, min(start + 100, count)) for start in range(0, count, 100))
