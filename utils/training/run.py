"""One run: what it is made of, how far it has come, and its checkpoints."""

import copy
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from torch import Tensor, nn

from sparselearning.errors import UsageError
from sparselearning.kinds import misfit
from sparselearning.superposition import Superposition, Ticket
from utils.command_line.options import Options
from utils.data.protocol import Splits
from utils.run_folder.checkpoints import (
    check_kept,
    checkpoint_path,
    find_checkpoints,
    identity,
    load_checkpoint,
    save_checkpoint,
)
from utils.run_folder.tickets import ticket_name
from utils.training.build import (
    averaging,
    check_batch,
    count_steps,
    make_masking,
    make_optimizer,
    make_teachers,
    rewound_epochs,
    snip_batches,
)
from utils.training.costs import Costs
from utils.training.evaluation import evaluate, evaluate_tickets, recompute_batch_norm
from utils.training.plan import make_plan, one_training


class Run:
    """One run: its model, optimizer, masks and plan, and how far it has come.

    The order of the images, their augmentation, learning rates and topology updates are functions of the seed and
    the step, so that a run can be cut at any step and goes on to the same bits.

    Attributes:
        step: optimizer steps done; `phases_done`: phases that are over, their ticket taken.
        early: the step after which the weights are kept to be rewound to.
        results: metrics on the test set of the models met so far: "normal", "tickets", "superposed", "final".
        history: a row of metrics per epoch.
        seconds: time spent in training steps; `data_wait`: the part of the last epoch's that went by without data.
    """

    def __init__(self, args: Options, accelerator: Accelerator, model: nn.Module, data: Splits) -> None:
        self.args, self.accelerator, self.data = args, accelerator, data
        self.parts = accelerator.num_processes * args.gradient_accumulation_steps  # of a batch
        self.batch_size = args.batch_size * self.parts
        self.steps_per_epoch = count_steps(len(data.train), self.batch_size, self.parts)
        self.plan = make_plan(args, self.steps_per_epoch, self.batch_size)

        check_batch(args, model)
        self.model = model.to(accelerator.device).to(memory_format=torch.channels_last)
        self.scratch = copy.deepcopy(self.model)  # evaluates tickets, so that the trained model stays untouched
        self.teachers = make_teachers(args, self.model)
        optimizer = make_optimizer(args, self.model, accelerator)
        snip = snip_batches(data.train)
        self.masking = make_masking(args, self.model, optimizer, self.plan, self.steps_per_epoch, snip)
        self.masks: Mapping[str, Tensor] = self.masking.masks if self.masking else {}
        input_shape = tuple(data.train.clean_batch(0, 1)[0].shape[1:])
        self.costs = Costs(self.model, self.masking, input_shape, self.teachers, rewound_epochs(args))
        target = self.masking.target_nnz if self.masking else 0
        self.superposition: Superposition | None = None
        if args.sup_tickets:
            self.superposition = Superposition(self.masks, target, **averaging(args))
        if args.compile:
            self.model.compile()
        self.wrapped, self.optimizer = accelerator.prepare(self.model, optimizer)

        self.step = self.phases_done = 0
        early = max(round(args.save_early * one_training(args)), 1) if args.save_early else 0  # to whole epochs
        self.early = early * self.steps_per_epoch
        self.results: dict[str, Any] = {"tickets": []}
        self.history: list[dict[str, Any]] = []
        self.seconds = self.images_per_second = self.data_wait = 0.0
        self.sums = torch.zeros(3, dtype=torch.float64, device=accelerator.device)  # Σ loss, Σ correct, images
        self.check_masks_agree()

    def check_masks_agree(self) -> None:
        """Raises RuntimeError where the processes have different masks, which only a defect can bring about."""
        if self.accelerator.num_processes == 1 or not self.masks:
            return
        layers = enumerate(self.masks.values(), 1)
        # the shift, unlike a product, tells two places from two others with the same sum
        places = [(mask.flatten().nonzero() + 1) * (2654435761 * i) for i, mask in layers]
        digest = torch.stack([(place ^ place >> 17).sum() for place in places]).sum()
        digests = self.accelerator.gather(digest.reshape(1)).tolist()
        if len(set(digests)) > 1:
            raise RuntimeError(f"the masks of the processes differ at step {self.step}: {digests}")

    def evaluate(self, ticket: Ticket) -> dict[str, float]:
        """Accuracy (%), NLL and ECE of a ticket on the test images.

        Raises:
            UsageError: the network has diverged.
        """
        self.scratch.load_state_dict(ticket)
        metrics = evaluate(self.accelerator, self.scratch, self.data.test)
        if not math.isfinite(metrics["nll"]):
            raise self.diverged()
        return metrics

    def evaluate_ensemble(self, folder: Path) -> dict[str, float]:
        """Metrics of the tickets kept in a run folder, all together. Raises UsageError where one is missing."""
        paths = [folder / ticket_name(j + 1) for j in range(len(self.results["tickets"]))]
        return evaluate_tickets(self.accelerator, self.scratch, paths, self.data.test)

    def diverged(self) -> UsageError:
        rate = self.optimizer.param_groups[0]["lr"]
        return UsageError(
            f"the loss became NaN or infinite by step {self.step} at learning rate {rate:g}: use a smaller --lr, "
            f"--clip-grad-norm 1, or --mixed-precision bf16 instead of fp16"
        )

    def superpose(self) -> Ticket:
        """The superposed ticket of the tickets so far, its batch-norm statistics averaged or recomputed."""
        assert self.superposition is not None
        ticket = self.superposition.ticket()
        if self.args.bn == "average":
            return ticket
        self.scratch.load_state_dict(ticket)
        order = self.data.train.epoch(self.args.seed, self.args.epochs)  # the epoch that would come next
        recompute_batch_norm(self.accelerator, self.scratch, order, self.batch_size)
        return {name: tensor.clone() for name, tensor in self.scratch.state_dict().items()}

    def share_statistics(self) -> None:
        """Give all processes the main one's batch-norm statistics, which DDP itself does before the next batch only."""
        if self.accelerator.num_processes > 1:
            broadcast(list(self.model.buffers()))

    # ---- checkpoints -----------------------------------------------------------------------------------------------

    def identity(self) -> dict[str, Any]:
        """Equal for all parts of an interrupted run."""
        own = identity(self.args, self.batch_size, self.steps_per_epoch)
        return own | {"fingerprint of the data": self.data.fingerprint}

    def circumstances(self) -> str:
        """What the bits of a run depend on beside its options, and what it may go on without."""
        device, threads = self.accelerator.device, torch.get_num_threads()
        kind = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
        kind += f" with {threads} thread{'s' * (threads > 1)}" if device.type == "cpu" else ""
        return f"batches in {self.parts} part{'s' * (self.parts > 1)} on {self.accelerator.num_processes} × {kind}"

    def state_dict(self) -> dict[str, Any]:
        scaler = self.accelerator.scaler
        return {
            "step": self.step,
            "phases_done": self.phases_done,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": scaler.state_dict() if scaler is not None else None,
            "masking": self.masking.state_dict() if self.masking else None,
            "superposition": self.superposition.state_dict() if self.superposition else None,
            "results": self.results,
            "history": self.history,
            "seconds": self.seconds,
            "cost": dict(self.costs.steps),
            "sums": self.sums,
            "circumstances": self.circumstances(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Raises UsageError where the state does not fit this run."""
        try:
            if problem := misfit(state, self._expected(state)):
                raise UsageError(problem)
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            if self.accelerator.scaler is not None:
                self.accelerator.scaler.load_state_dict(state["scaler"])
            if self.masking is not None:
                self.masking.load_state_dict(state["masking"])
            if self.superposition is not None:
                self.superposition.load_state_dict(state["superposition"], self.model.state_dict())
            self.step, self.phases_done = state["step"], state["phases_done"]
            self.results, self.history = state["results"], state["history"]
            self.seconds, self.costs.steps = state["seconds"], dict(state["cost"])
            self.sums.copy_(state["sums"] if self.accelerator.is_main_process else 0 * self.sums)
        except (KeyError, TypeError, AttributeError, RuntimeError, ValueError, IndexError) as error:
            raise UsageError(f"it does not fit this run: {' '.join(str(error).split())[:300]}") from error

    def _expected(self, state: dict[str, Any]) -> dict[str, Any]:
        """A state built as that one should be, the parts that grow in a run included."""
        step, phases_done = int(state["step"]), int(state["phases_done"])
        ends = [0, *(phase.end for phase in self.plan)]
        if not 0 <= phases_done < len(ends) or not ends[phases_done] <= step <= [*ends, ends[-1]][phases_done + 1]:
            raise UsageError(f"step {step} is not in phase {phases_done + 1} of the run")
        own, optimizer = self.state_dict(), self.optimizer.state_dict()
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        buffers = {i: {"momentum_buffer": p.data} for i, p in enumerate(parameters) if step and self.args.momentum}
        own["optimizer"] = {**optimizer, "state": buffers}
        if self.superposition is not None:
            tickets = state["superposition"]["tickets"]
            counts = {name: mask.to(torch.int32) for name, mask in self.masks.items()}
            own["superposition"] |= {
                "tickets": 0,
                "average": own["model"] if tickets else {},
                "activations": counts if tickets and self.superposition.counts else {},
            }
        return own | {"results": dict(state["results"]), "history": list(state["history"])}

    def save(self, folder: Path) -> Path:
        """Write a checkpoint of this very step into the run folder; the processes wait for each other."""
        path = checkpoint_path(folder, self.step)
        if self.accelerator.is_main_process:
            save_checkpoint(path, self.step, self.state_dict(), self.identity())
        self.accelerator.wait_for_everyone()
        return path

    def resume(self, folder: Path, source: str) -> str:
        """Go on from `source`, a checkpoint or "auto"; returns a line that says from where.

        Raises:
            UsageError: the checkpoint named is damaged or from another run, or all of them are.
        """
        passed_over = ""
        for path in find_checkpoints(folder, source):
            try:
                state = load_checkpoint(path, self.identity())
                before = state.setdefault("circumstances", self.circumstances())  # older ones do not say
                self.load_state_dict(state)
                check_kept(folder, len(self.results["tickets"]) if self.args.save_tickets else 0)
            except UsageError as error:
                if source != "auto":
                    raise UsageError(f"{path}: {error}") from error
                passed_over += f"passed over {path}: {error}\n"
                continue
            self.check_same_step()
            line = f"{passed_over}resumed from {path}, at step {self.step} of {self.plan[-1].end}"
            if before != (now := self.circumstances()):
                line += f"\nnote: {before} before, {now} from here: the bits are not those of an uninterrupted run"
            return line
        self.check_same_step()
        if passed_over:
            raise UsageError(f"no checkpoint to go on from: {passed_over.splitlines()[0]}")
        return f"no checkpoint in {folder} yet: starting at step 0"

    def check_same_step(self) -> None:
        """Raises UsageError where the processes did not find the same checkpoint."""
        steps = self.accelerator.gather(torch.tensor([self.step], device=self.accelerator.device)).tolist()
        if len(set(steps)) > 1:
            raise UsageError(f"the processes resume at steps {steps}: every process must see the same --output-dir")
        self.check_masks_agree()
