"""One run: the objects that it trains, how far it has come, and its checkpoints."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from accelerate.utils import broadcast
from torch import Tensor, nn

from sparselearning import Masking, Superposition, UsageError, unwrap
from sparselearning.phases import Phase
from sparselearning.superposition import Ticket
from utils.command_line.options import Options
from utils.command_line.rows import Setting
from utils.data.protocol import Splits
from utils.run_folder.checkpoints import checkpoint_path, save_checkpoint
from utils.run_folder.contents import EpochRow, Numbers, Results, State
from utils.run_folder.identity import identity
from utils.run_folder.tickets import save_ticket, ticket_name
from utils.training.batches import Batches
from utils.training.build import check_phases
from utils.training.costs import COUNTINGS, Costs
from utils.training.evaluation import evaluate, evaluate_tickets, recompute_batch_norm


@dataclass
class Run:
    """The objects of a run, and how far it has come.

    The order of the images, their augmentation, learning rates and topology updates are functions of the seed and
    the step, so that a run can be cut at any step and goes on to the same bits.

    Attributes:
        folder: of the run, where its files go.
        wrapped: the network as it trains, prepared by the accelerator; `model` is the plain one.
        test_model: a copy of the network, which evaluates tickets, so that the trained one stays untouched.
        step: optimizer steps done; `phases_done`: phases that are over, their ticket taken.
        results: metrics on the test set of the models met so far: "normal", "tickets", "superposed", "final".
        history: a row of metrics per epoch.
        seconds: time spent in training steps; `data_wait`: the part of the last epoch's that went by without data.
        sums: Σ loss, Σ correct, images, of the epoch so far.

    Raises:
        UsageError: the masking cannot move connections as the phases say.
        RuntimeError: the processes have different masks.
    """

    options: Options
    accelerator: Accelerator
    data: Splits
    folder: Path
    phases: Sequence[Phase]
    batches: Batches
    wrapped: nn.Module
    optimizer: AcceleratedOptimizer
    masking: Masking | None
    superposition: Superposition | None
    test_model: nn.Module
    teachers: Sequence[nn.Module]
    costs: Costs

    step: int = 0
    phases_done: int = 0
    results: Results = field(default_factory=lambda: Results(tickets=[]))
    history: list[EpochRow] = field(default_factory=list)
    seconds: float = 0.0
    images_per_second: float = 0.0
    data_wait: float = 0.0

    def __post_init__(self) -> None:
        self.model = unwrap(self.wrapped)
        self.masks: Mapping[str, Tensor] = self.masking.masks if self.masking else {}
        self.sums = torch.zeros(3, dtype=torch.float64, device=self.accelerator.device)
        self._superposed: tuple[int, Ticket] | None = None  # of so many tickets
        self.check_masks_agree()
        if self.masking is not None:
            check_phases(self.masking, self.phases)

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

    def share_statistics(self) -> None:
        """Give all processes the main one's batch-norm statistics, which DDP itself does before the next batch only."""
        if self.accelerator.num_processes > 1:
            broadcast(list(self.model.buffers()))

    def diverged(self) -> UsageError:
        rate = self.optimizer.param_groups[0]["lr"]
        return UsageError(
            f"the loss became NaN or infinite by step {self.step} at learning rate {rate:g}: use a smaller --lr, "
            f"--clip-grad-norm 1, or --mixed-precision bf16 instead of fp16"
        )

    # ---- tickets ---------------------------------------------------------------------------------------------------

    def averages(self, phase: Phase) -> bool:
        """Is the model at its end averaged in: a ticket, or with --include-normal that of the first phase?"""
        return phase.ticket or (self.options.include_normal and phase is self.phases[0])

    def superposed(self) -> Ticket:
        """The superposed ticket of the tickets so far, its batch-norm statistics averaged or recomputed.

        It is kept until training goes on, which needs the room.
        """
        assert self.superposition is not None
        tickets = self.superposition.tickets
        if self._superposed is None or self._superposed[0] != tickets:
            self._superposed = tickets, self._with_batch_norm(self.superposition.ticket())
        return self._superposed[1]

    def forget_superposed(self) -> None:
        self._superposed = None

    def _with_batch_norm(self, ticket: Ticket) -> Ticket:
        if self.options.bn == "average":
            return ticket
        self.test_model.load_state_dict(ticket)
        order = self.data.train.epoch(self.options.seed, self.options.epochs)  # the epoch that would come next
        recompute_batch_norm(self.accelerator, self.test_model, order, self.batches.size)
        return {name: tensor.clone() for name, tensor in self.test_model.state_dict().items()}

    def evaluate(self, ticket: Ticket) -> Numbers:
        """Accuracy (%), NLL and ECE of a ticket on the test images.

        Raises:
            UsageError: the network has diverged.
        """
        self.test_model.load_state_dict(ticket)
        metrics = evaluate(self.accelerator, self.test_model, self.data.test)
        if not math.isfinite(metrics["nll"]):
            raise self.diverged()
        return metrics

    def evaluate_ensemble(self) -> Numbers:
        """Metrics of the saved tickets, all together. Raises UsageError where one is missing."""
        paths = [self.folder / ticket_name(j + 1) for j in range(len(self.results["tickets"]))]
        return evaluate_tickets(self.accelerator, self.test_model, paths, self.data.test)

    def about(self) -> dict[str, object]:
        """What a ticket file says of itself."""
        options = self.options
        return {
            "data": options.data,
            "model": options.model,
            "width": options.width,
            "efficient_ensemble": str(options.of_members) if options.of_members else None,
            "method": options.method if options.sparse else "dense",
            "sup_tickets": options.sup_tickets,
            "seed": options.seed,
            "epochs": options.epochs,
            "density": options.density if options.sparse else 1.0,
            "exempt": " ".join(options.exempt),
            "limit_train": options.limit_train,
            "valid_fraction": options.valid_fraction,
            **self.data.about,
            **({"start_from": options.start_from} if options.start_from else {}),
        }

    def save_ticket(self, name: str, ticket: Mapping[str, Tensor], **more: object) -> None:
        """Write a ticket into the run folder, as safetensors; its header says what it is, and `more`."""
        if self.accelerator.is_main_process:
            save_ticket(self.folder / name, ticket, self.about() | more)

    # ---- checkpoints -----------------------------------------------------------------------------------------------

    def identity(self) -> dict[str, Setting]:
        """Equal for all parts of an interrupted run."""
        own = identity(self.options, self.batches.size, self.batches.steps)
        return own | {"fingerprint of the data": self.data.fingerprint}

    def circumstances(self) -> str:
        """What the bits of a run depend on beside its options, and what it may go on without."""
        device, threads, parts = self.accelerator.device, torch.get_num_threads(), self.batches.parts
        kind = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
        kind += f" with {threads} thread{'s' * (threads > 1)}" if device.type == "cpu" else ""
        return f"batches in {parts} part{'s' * (parts > 1)} on {self.accelerator.num_processes} × {kind}"

    def state_dict(self) -> State:
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
            "cost": dict(self.costs.steps.items()),
            "sums": self.sums,
            "circumstances": self.circumstances(),
        }

    def load_state_dict(self, state: State) -> None:
        """Takes the state of a checkpoint that fits this run, see `utils.training.resume`."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        if self.masking is not None and state["masking"] is not None:
            self.masking.load_state_dict(state["masking"])
        if self.superposition is not None and state["superposition"] is not None:
            self.superposition.load_state_dict(state["superposition"], self.model.state_dict())
        self.step, self.phases_done = state["step"], state["phases_done"]
        self.results, self.history = state["results"], state["history"]
        self.seconds, self.costs.steps = state["seconds"], {counting: state["cost"][counting] for counting in COUNTINGS}
        self.sums.copy_(state["sums"] if self.accelerator.is_main_process else 0 * self.sums)

    def save(self) -> Path:
        """Write a checkpoint of this very step into the run folder; the processes wait for each other."""
        path = checkpoint_path(self.folder, self.step)
        if self.accelerator.is_main_process:
            first = self.phases[0]
            another_ending = first.name == "normal" and len(self.phases) > 1  # may start from there
            keep = checkpoint_path(self.folder, first.end) if another_ending else None
            save_checkpoint(path, self.step, self.state_dict(), self.identity(), keep)
        self.accelerator.wait_for_everyone()
        return path
