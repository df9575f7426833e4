"""The training loop: epochs of optimizer steps, to the end of a phase."""

import contextlib
import itertools
import math
import sys
import time
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sparselearning.phases import Phase
from sparselearning.selection import seed_of
from utils.files.typed import checked
from utils.run_folder.contents import EpochRow
from utils.run_folder.tickets import trajectory_name
from utils.training.build import EARLY
from utils.training.changes import Changes
from utils.training.dealing import Deal, dealt
from utils.training.evaluation import evaluate
from utils.training.interruption import Interruption
from utils.training.metrics import METRICS
from utils.training.plan import early_epochs
from utils.training.run import Run
from utils.training.tracker import Tracker

SLOW = 0.1  # of an epoch spent waiting for data is worth a line in the log
MAX_SKIPS = 50  # of fp16's gradient scaler in a row: 2⁵⁰ is beyond any scale it starts from


def train(run: Run, phase: Phase, tracker: Tracker, interruption: Interruption) -> None:
    """Train to the end of the phase; connections move as the phase says."""
    if run.masking is not None:
        run.masking.begin_phase(phase.start, phase.end, updates=phase.updates, explore=phase.explore)
    changes = Changes(run.masking)
    run.forget_superposed()
    run.wrapped.train()
    while run.step < phase.end:
        totals, save, stop = _train_epoch(run, phase, changes, tracker, interruption)
        run.share_statistics()
        tracker.updates(changes.take())
        if run.step % run.batches.steps == 0:
            _finish_epoch(run, phase, tracker, totals)
        if save:
            tracker.log(f"checkpoint {run.save()}")
        if stop:
            sys.exit(128 + stop)


def _train_epoch(
    run: Run, phase: Phase, changes: Changes, tracker: Tracker, interruption: Interruption
) -> tuple[tuple[float, float, float], bool, int]:
    """Train to the end of the epoch or phase, or to an interruption; returns what `sums` is, and what poll said."""
    epoch, first = divmod(run.step, run.batches.steps)
    order = run.data.train.epoch(run.options.seed, epoch)
    positions = range(first, min(run.batches.steps, first + phase.end - run.step))
    rank, processes = run.accelerator.process_index, run.accelerator.num_processes
    batches = order.batches(part for position in positions for part in run.batches.parts_of(position, rank, processes))
    save, stop, waited, started = False, 0, 0.0, time.perf_counter()
    for position in positions:
        asked = time.perf_counter()
        parts = list(itertools.islice(batches, run.options.gradient_accumulation_steps))
        waited += time.perf_counter() - asked
        _optimizer_step(run, phase, parts, run.batches.images_of(position))
        if changes.note(run.step):
            run.check_masks_agree()
        tracker.step()
        save, stop = interruption.poll(run.step)
        if save:
            break
    run.sums = run.accelerator.reduce(run.sums, "sum")
    loss, correct, images = run.sums.tolist()  # here the host waits for the device
    if not run.accelerator.is_main_process:
        run.sums.zero_()
    if not math.isfinite(loss):
        raise run.diverged()
    elapsed = time.perf_counter() - started
    run.seconds += elapsed
    trained = run.batches.images_before(position + 1) - run.batches.images_before(first)
    run.images_per_second = trained / elapsed
    # where the images are on a GPU, the host waits for room in the queue of kernels and not for data
    run.data_wait = 0.0 if run.data.train.on_device else waited / elapsed
    return (loss, correct, images), save, stop


def _optimizer_step(run: Run, phase: Phase, parts: list[tuple[Tensor, Tensor]], batch_size: int) -> None:
    """One step on the parts of a batch; repeated while fp16's gradient scaler skips it, with a smaller scale."""
    for group in run.optimizer.param_groups:
        group["lr"] = group.get("lr_part", 1) * phase.lr(run.step - phase.start)
    _seed(run)
    # accelerate's wrapper serves the scaler, and looks for packages on the disk at every step
    optimizer = run.optimizer if run.accelerator.scaler is not None else run.optimizer.optimizer
    for _ in range(MAX_SKIPS):
        counted = _backward(run, parts, batch_size)
        if run.options.clip_grad_norm is not None:
            _clip_gradients(run, run.options.clip_grad_norm)
        optimizer.step()
        optimizer.zero_grad()
        if not run.optimizer.step_was_skipped:
            break
    else:
        raise run.diverged()
    for part in counted:  # a kernel for each number, and no copy of any
        for total, number in zip(run.sums, part, strict=True):
            total += number
    run.step += 1
    run.costs.add_step()


def _seed(run: Run) -> None:
    """Dropout and its like become functions of the step too; torch.manual_seed asks for every kind of device."""
    seed, device = seed_of(run.options.seed, run.step, run.accelerator.process_index), run.accelerator.device
    torch.default_generator.manual_seed(seed)
    if device.type != "cpu":
        torch.get_device_module(device).manual_seed(seed)


def _backward(run: Run, parts: list[tuple[Tensor, Tensor]], batch_size: int) -> list[tuple[Tensor, Tensor, int]]:
    """The gradient of the mean loss of a whole batch, of which `parts` are the share of this process.

    Returns what `sums` counts of each part, on the device: nothing in a step waits for it.
    """
    counted, repetitions = [], run.options.batch_repetitions or 1
    for i, (images, labels) in enumerate(parts, 1):
        deal = dealt(run.model, images, repetitions)
        targets = deal.rows(labels)
        with contextlib.nullcontext() if i == len(parts) else run.accelerator.no_sync(run.wrapped):
            logits = _logits(run, deal.inputs, whole=len(images) == run.options.batch_size)
            smoothing = run.options.label_smoothing
            loss = F.cross_entropy(logits.float(), targets, reduction="sum", label_smoothing=smoothing)
            soft = [_soft_loss(run, teacher, images, deal, logits) for teacher in run.teachers]
            mean = sum(soft, loss) / (1 + len(soft)) if soft else loss
            # DDP averages over the processes what is to be summed
            run.accelerator.backward(mean * (run.accelerator.num_processes / (repetitions * batch_size)))
        correct = (logits.detach().argmax(1) == targets).sum()
        counted.append((loss.detach(), correct, len(targets)))
    return counted


def _logits(run: Run, inputs: Tensor, whole: bool) -> Tensor:
    """Float (rows, classes). A compiled model takes whole batches; to compile it for the rest of an epoch too would
    take as long again.
    """
    if not run.options.compile or whole:
        return run.wrapped(inputs).flatten(0, -2)
    with torch.compiler.set_stance("force_eager"):
        return run.wrapped(inputs).flatten(0, -2)


def _soft_loss(run: Run, teacher: nn.Module, images: Tensor, deal: Deal, logits: Tensor) -> Tensor:
    """T² · KL(teacher ‖ student) of the distributions at temperature T, summed over the batch (Hinton et al. 2015)."""
    with torch.no_grad(), run.accelerator.autocast():
        target = deal.rows(teacher(images))
    t = run.options.temperature
    student, taught = (F.log_softmax(x.float() / t, dim=1) for x in (logits, target))
    return t**2 * F.kl_div(student, taught, reduction="sum", log_target=True)


def _clip_gradients(run: Run, max_norm: float) -> None:
    """Scale the gradients down to a norm that sees only the connections that exist."""
    run.accelerator.unscale_gradients(run.optimizer)
    clip = run.masking.clip_grad_norm_ if run.masking else nn.utils.clip_grad_norm_
    clip(run.model.parameters(), max_norm)


def _finish_epoch(run: Run, phase: Phase, tracker: Tracker, totals: tuple[float, float, float]) -> None:
    loss, correct, images = totals
    run.sums.zero_()
    masking, valid, epoch = run.masking, run.data.valid, run.step // run.batches.steps
    held_out: Mapping[str, float | None] = dict.fromkeys(METRICS)
    if valid:  # by the copy: the trained model may be compiled, for training
        run.test_model.load_state_dict(run.model.state_dict())
        held_out = {**held_out, **evaluate(run.accelerator, run.test_model, valid)}
    row = {
        "epoch": epoch,
        "step": run.step,
        "phase": phase.name,
        "lr": phase.lr(run.step - 1 - phase.start),
        "loss": loss / images,
        "accuracy": 100 * correct / images,
        **{f"valid_{name}": held_out[name] for name in METRICS},
        "density": masking.nnz / masking.num_weights if masking else 1.0,
        "grown": masking.grown if masking else None,
        "dropped": masking.dropped if masking else None,
        "explored": masking.itop_rate() if masking else None,
        "images_per_second": run.images_per_second,
    }
    run.history.append(checked(row, EpochRow, "a row of metrics.csv"))
    if epoch == early_epochs(run.options):
        run.save_ticket(EARLY, run.model.state_dict(), step=run.step)
    if run.options.save_every and epoch % run.options.save_every == 0:
        run.save_ticket(trajectory_name(epoch), run.model.state_dict(), step=run.step, phase=phase.name)
    tracker.epoch(run.history, run.costs.densities(), run.data_wait)
    if run.data_wait > SLOW:
        tracker.log(f"           {100 * run.data_wait:.0f} % of this epoch went by waiting for data")
