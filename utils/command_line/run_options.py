"""The options that every run has, dense or sparse: its network and optimizer, how and where it is computed and kept."""

import os
from dataclasses import dataclass

from models import MODELS
from sparselearning.errors import UsageError
from utils.command_line.paths import place
from utils.command_line.rows import FROM_0, OPEN, Group, Range, count, derived, not_negative, option, positive

PRECISIONS = ("no", "bf16", "fp16")
EPOCHS, RATE = count(100_000), positive(1000)
OWN_RATE = "whose learning rate is its own"


@dataclass(frozen=True, kw_only=True)
class ModelOptions(Group):
    """model and optimizer: SGD with momentum; the learning rate falls to a tenth at each of --lr-drops."""

    model: str = option("vgg16", "a network for small images", choices=MODELS)
    epochs: int = option(250, "length of the whole run, tickets included", metavar="N", fits=EPOCHS)
    width: float = option(1.0, "channels of every layer, times the usual: 0.34 makes the Small-Dense network of 90 %% "
                          "sparsity", metavar="F", fits=positive(10))  # fmt: skip
    batch_size: int = option(128, "images per process and backward pass", metavar="N", fits=count(1_000_000),
                             changes="parts")  # fmt: skip
    lr: float = option(0.1, "learning rate at the start", fits=RATE)
    lr_drops: tuple[float, ...] = option(
        (0.5, 0.75), "when it falls to a tenth, in parts of the normal phase or the run; to whole epochs", metavar="F",
        fits=OPEN, idle={"snapshot": OWN_RATE, "edst": OWN_RATE})  # fmt: skip
    lr_parts: str = option("normal", "what --lr-drops and --warmup are parts of", choices=("normal", "run"),
                           idle={"snapshot": OWN_RATE})  # fmt: skip
    warmup: float = option(0.0, "length of a linear warm-up, to whole optimizer steps", metavar="F", fits=FROM_0,
                           idle={"snapshot": OWN_RATE})  # fmt: skip
    scale_lr: bool = option(False, "all learning rates times the images per optimizer step / 128")
    momentum: float = option(0.9, "of SGD", fits=FROM_0)
    clip_grad_norm: float | None = option(None, "scale gradients down to this norm, of the connections that exist",
                                          metavar="N", fits=positive(1_000_000))  # fmt: skip
    weight_decay: float = option(5e-4, "on all parameters", fits=not_negative(1000))
    norm_weight_decay: float | None = option(None, "on those of norm layers, where it is to be another",
                                             fits=not_negative(1000))  # fmt: skip
    label_smoothing: float = option(0.0, "part of a label that goes to all classes alike", metavar="F", fits=FROM_0)
    distill: tuple[str, ...] = option((), "learn from these teachers too, each as much as from the labels",
                                      metavar="TICKET", read=place)  # fmt: skip
    temperature: float = option(1.0, "by which the logits of teachers and student are divided", metavar="T",
                                fits=positive(1_000_000), needs=("distill",))  # fmt: skip


def launched_precision(options: object) -> str:
    """What the launcher says. Raises UsageError where that is no precision."""
    precision = os.environ.get("ACCELERATE_MIXED_PRECISION", "no").lower()
    if precision not in PRECISIONS:
        raise UsageError(
            f"the environment says ACCELERATE_MIXED_PRECISION={precision}: use one of {', '.join(PRECISIONS)}"
        )
    return precision


@dataclass(frozen=True, kw_only=True)
class RunOptions(Group):
    """run: How it is computed, and what it keeps where."""

    seed: int = option(0, "of weights, connections, data order and augmentation",
                       fits=Range(lambda v: 0 <= v < 2**63, "between 0 and 2^63"))  # fmt: skip
    mixed_precision: str = derived(launched_precision, "(the launcher's; else no)", choices=PRECISIONS)
    gradient_accumulation_steps: int = option(1, "backward passes per optimizer step", metavar="N",
                                              fits=count(1_000_000), changes="parts")  # fmt: skip
    compile: bool = option(False, "torch.compile the model, on a GPU to CUDA graphs; the first steps take long")
    deterministic: bool = option(False, "on a GPU: only kernels that give the same bits in every run, which is slower; "
                                 "a CPU gives them without, with the same number of threads")  # fmt: skip
    config: str | None = option(None, "options from a file; the command line goes before", metavar="FILE.yaml",
                                read=place, changes="nothing", recorded=False)  # fmt: skip
    output_dir: str | None = option(None, "(runs/<data>-<model>-<method>-…)", metavar="FOLDER", read=place,
                                    changes="nothing")  # fmt: skip
    overwrite: bool = option(False, "replace the run that --output-dir holds", changes="nothing", recorded=False)
    resume: str | None = option(None, "go on from the newest complete checkpoint, or from this one",
                                metavar="auto|PATH", read=place, changes="nothing", recorded=False)  # fmt: skip
    checkpoint_minutes: float = option(10.0, "time between checkpoints", metavar="T", fits=positive(),
                                       changes="nothing")  # fmt: skip
    save_early: float | None = option(None, "keep the weights after this part of the run as early.safetensors, to "
                                      "--rewind to", metavar="F", fits=OPEN, changes="nothing")  # fmt: skip
    save_every: int | None = option(None, "keep the network every N epochs in trajectory/, for pictures of the way "
                                    "that training takes", metavar="N", fits=EPOCHS, changes="nothing")  # fmt: skip
    dry_run: bool = option(False, "print the plan, densities, parameters and FLOPs, and exit", changes="nothing",
                           recorded=False)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class ImageNetRunOptions(RunOptions):
    """A run may be the evaluation of a ticket alone."""

    eval_only: bool = option(False, "evaluate --ticket on the test images, and exit")
    ticket: str | None = option(None, "a ticket.safetensors of this model", metavar="FILE", read=place)
