"""The training loop: phases, optimizer steps, and evaluation on exactly the samples of a split."""

import argparse
import contextlib
import copy
import time
from collections.abc import Mapping
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn import functional as F

from sparselearning.errors import UsageError
from sparselearning.flops import StepKind, forward_flops, layer_costs, step_flops
from sparselearning.masking import Masking
from sparselearning.phases import Phase
from sparselearning.superposition import Superposition, Ticket
from utils.data import ImageSet, Splits
from utils.metrics import per_sample, summarise
from utils.setup import make_masking, make_optimizer, make_plan
from utils.tracking import Tracker

EVAL_BATCH = 500
SNIP_IMAGES = 10  # per class, as SNIP's authors use


class Trainer:
    """One run: its model, optimizer, masks and plan, and how far it has come.

    The order of the images, their augmentation, learning rates and topology updates are functions of the seed and
    the step, so that `step` is nearly all there is to know.

    Attributes:
        step: optimizer steps done; `phases_done`: phases whose ticket is taken.
        results: metrics on the test set of the models met so far: "normal", "tickets", "superposed".
        history: a row of metrics per epoch.
    """

    def __init__(self, args: argparse.Namespace, accelerator: Accelerator, model: nn.Module, data: Splits) -> None:
        self.args, self.accelerator, self.data = args, accelerator, data
        self.parts = accelerator.num_processes * args.gradient_accumulation_steps  # of a batch
        self.batch_size = args.batch_size * self.parts
        self.steps_per_epoch = _steps_per_epoch(len(data.train), self.batch_size, self.parts)
        self.plan = make_plan(args, self.steps_per_epoch)

        self.model = model.to(accelerator.device).to(memory_format=torch.channels_last)
        self.scratch = copy.deepcopy(self.model)  # evaluates tickets, so that the trained model stays untouched
        self.costs = layer_costs(self.model, tuple(data.train.clean_batch(0, 1)[0].shape[1:]))
        optimizer = make_optimizer(args, self.model, accelerator)
        self.masking = make_masking(args, self.model, optimizer, self.plan, _snip_batches(data.train))
        if args.compile:
            self.model.compile()
        self.wrapped, self.optimizer = accelerator.prepare(self.model, optimizer)

        names = list(self.masking.masks) if self.masking else []
        self.count = self.masking.target if self.masking else 0
        self.superposition = Superposition(names, self.count, args.superpose, args.cima_beta)
        self.step = self.phases_done = 0
        self.results: dict[str, Any] = {"tickets": []}
        self.history: list[dict[str, Any]] = []
        self.flops = self.seconds = 0.0
        self.sums = torch.zeros(3, dtype=torch.float64, device=accelerator.device)  # Σ loss, Σ correct, images

    # ---- training --------------------------------------------------------------------------------------------------

    def train(self, phase: Phase, tracker: Tracker) -> None:
        """Train to the end of the phase; connections move as the phase says."""
        if self.masking is not None:
            self.masking.update_end = phase.end if phase.updates else phase.start
            if phase.explore and self.step == phase.start:
                self.masking.explore(phase.explore)
        self.wrapped.train()
        while self.step < phase.end:
            epoch, first = divmod(self.step, self.steps_per_epoch)
            order = self.data.train.epoch(self.args.seed, epoch)
            started, first_step = time.perf_counter(), self.step
            for position in range(first, self.steps_per_epoch):
                for group in self.optimizer.param_groups:
                    group["lr"] = phase.lr(self.step - phase.start)
                self._optimizer_step(order, position)
                tracker.step()
            self._finish_epoch(epoch, phase, tracker, started, first_step)

    def _optimizer_step(self, order: Any, position: int) -> None:
        """One step on one batch of the epoch; repeated while fp16's gradient scaler skips it, with a smaller scale."""
        start = position * self.batch_size
        stop = min(start + self.batch_size, len(order))
        while True:
            for part in range(self.accelerator.process_index, self.parts, self.accelerator.num_processes):
                # the batch is cut into equal parts: every process takes one of each accumulation step
                cut = [start + (stop - start) * i // self.parts for i in (part, part + 1)]
                last = part + self.accelerator.num_processes >= self.parts
                with contextlib.nullcontext() if last else self.accelerator.no_sync(self.wrapped):
                    images, labels = order.batch(*cut)
                    self._backward(images, labels, stop - start)
            self.optimizer.step()
            self.optimizer.zero_grad()
            if not self.optimizer.step_was_skipped:
                break
        self.step += 1
        self.flops += self._step_flops()

    def _backward(self, images: Tensor, labels: Tensor, batch_size: int) -> None:
        logits = self.wrapped(images)
        # the sum over this part, as a share of the mean over the whole batch; DDP averages over the processes
        loss = F.cross_entropy(logits.float(), labels, reduction="sum") / batch_size
        self.accelerator.backward(loss * self.accelerator.num_processes)
        with torch.no_grad():
            correct = (logits.argmax(1) == labels).sum()
            self.sums += torch.stack((loss * batch_size, correct, correct.new_tensor(len(labels))))

    def _finish_epoch(self, epoch: int, phase: Phase, tracker: Tracker, started: float, first_step: int) -> None:
        loss, correct, images = self.accelerator.reduce(self.sums, "sum").tolist()
        self.sums.zero_()
        elapsed = time.perf_counter() - started
        self.seconds += elapsed
        masking = self.masking
        valid = self.evaluate(self.data.valid)["accuracy"] if self.data.valid is not None else None
        row = {
            "epoch": epoch + 1,
            "step": self.step,
            "phase": phase.name,
            "lr": phase.lr(self.step - 1 - phase.start),
            "loss": loss / images,
            "accuracy": 100 * correct / images,
            "valid_accuracy": valid,
            "density": masking.nnz / masking.total if masking else 1.0,
            "grown": masking.grown if masking else None,
            "dropped": masking.dropped if masking else None,
            "explored": masking.explored_share() if masking else None,
            "images_per_second": (self.step - first_step) * self.batch_size / elapsed,
        }
        sparsity = {name: 1 - d for name, d in self.densities().items()}
        tracker.epoch(row, self.args.epochs, sparsity, self.batch_size)

    # ---- evaluation ------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def evaluate(self, images: ImageSet, ticket: Mapping[str, Tensor] | None = None) -> dict[str, float]:
        """Accuracy (%), NLL and ECE of the model, or of a ticket, on every sample of a split exactly once."""
        model = self.model
        if ticket is not None:
            self.scratch.load_state_dict(ticket)
            model = self.scratch
        model.eval()
        rows = torch.zeros(len(images), 3, dtype=torch.float64, device=self.accelerator.device)
        world, rank = self.accelerator.num_processes, self.accelerator.process_index
        # whole batches go round the processes, so that a sample meets the same kernels whatever their number
        for start in range(rank * EVAL_BATCH, len(images), world * EVAL_BATCH):
            stop = min(start + EVAL_BATCH, len(images))
            inputs, labels = images.clean_batch(start, stop)
            with self.accelerator.autocast():
                rows[start:stop] = per_sample(model(inputs).float(), labels)
        model.train()
        return summarise(self.accelerator.reduce(rows, "sum"))

    @torch.no_grad()
    def superpose(self) -> Ticket:
        """The superposed ticket of the tickets so far, with its batch-norm statistics averaged or recomputed."""
        ticket = self.superposition.ticket()
        return self._recompute_batch_norm(ticket) if self.args.bn == "recompute" else ticket

    def _recompute_batch_norm(self, ticket: Ticket) -> Ticket:
        """One more pass over the training data, the same on every process."""
        order = self.data.train.epoch(self.args.seed, self.args.epochs)  # the epoch that would come next
        stops = range(self.batch_size, len(order) + 1, self.batch_size)
        self.scratch.load_state_dict(ticket)
        with self.accelerator.autocast():
            batches = (order.batch(stop - self.batch_size, stop)[0] for stop in stops)
            torch.optim.swa_utils.update_bn(batches, self.scratch)
        return {name: tensor.clone() for name, tensor in self.scratch.state_dict().items()}

    # ---- what it costs ---------------------------------------------------------------------------------------------

    def densities(self) -> dict[str, float]:
        """The density of every masked layer, in the order of the network."""
        if self.masking is None:
            return {}
        return {name: self.masking.active[name] / weight.numel() for name, weight in self.masking.weights.items()}

    def forward_flops(self) -> tuple[float, float]:
        """FLOPs of one image through the sparse and through the dense network."""
        return forward_flops(self.costs, self.densities()), forward_flops(self.costs)

    def _step_flops(self) -> float:
        """FLOPs of the step just done, per image, as a multiple of a dense step."""
        masking: Masking | None = self.masking
        if masking is None:
            return 1.0
        if masking.active is not getattr(self, "_counted", None):  # replaced whenever a layer's density changes
            self._counted, self._sparse_dense = masking.active, self.forward_flops()
        kind: StepKind = "dense_gradient_at_updates" if masking.growth == "gradient" else "sparse"
        return step_flops(kind, *self._sparse_dense, masking.update_frequency) / (3 * self._sparse_dense[1])


def _steps_per_epoch(images: int, batch_size: int, parts: int) -> int:
    """Batches of an epoch; a rest that would leave some process fewer than the 2 images batch norm needs is left out."""
    steps, rest = divmod(images, batch_size)
    steps += rest >= 2 * parts
    if steps == 0:
        raise UsageError(f"{images} training images do not fill a batch in {parts} parts: use a smaller --batch-size")
    return steps


def _snip_batches(images: ImageSet) -> list[tuple[Tensor, Tensor]]:
    """The first images of an epoch that no run trains on: the same on every process."""
    order = images.epoch(seed=-1, epoch=0)
    count = min(SNIP_IMAGES * images.num_classes, len(images))
    return [order.batch(start, min(start + 100, count)) for start in range(0, count, 100)]
