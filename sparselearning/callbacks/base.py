"""What the callbacks have in common: whose masks a training begins with, and its plan of phases and tickets."""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import TypedDict, Unpack

from torch import Tensor, nn

from sparselearning.errors import UsageError
from sparselearning.layers import unwrap
from sparselearning.masking import Masking
from sparselearning.options import MaskingArguments, MaskingOptions
from sparselearning.phases import Phase
from sparselearning.superposition import Superposition, take_ticket


class CallbackState(TypedDict, total=False):
    """What a checkpoint must hold: the state of each, where there is one."""

    masking: Mapping[str, object]
    superposition: Mapping[str, object]


class SparseTraining:
    """Makes a Masking when a trainer has its model and optimizer, and leads it through the phases of a plan.

    Args:
        phases: a plan, as `sparselearning.phases` makes them, of as many steps as the trainer does. It also sets the
            learning rate, whatever the trainer's scheduler says.
        snip_batches, options: those of `Masking`; `total_steps` is the length of the first phase, or the trainer's,
            unless given.

    Attributes:
        masking: from the start of training on.
        superposition: of the tickets taken so far, where there are phases.
    """

    def __init__(
        self,
        method: str = "rigl",
        density: float | Mapping[str, float] = 0.05,
        *,
        phases: Sequence[Phase] = (),
        snip_batches: Iterable[tuple[Tensor, Tensor]] | None = None,
        **options: Unpack[MaskingOptions],
    ) -> None:
        self.phases = list(phases)
        self.options: MaskingArguments = {"method": method, "density": density, **options}
        self.snip_batches = snip_batches
        self.masking: Masking | None = None
        self.superposition: Superposition | None = None

    def begin(self, model: nn.Module, optimizer: object, steps: int | None, saved: CallbackState | None) -> None:
        """Training begins, for `steps` optimizer steps: with saved masks, those of the training before, or new ones.

        Raises:
            UsageError: the options do not fit the model, the saved masks the options, or the phases the steps.
        """
        if self.phases and steps not in (None, self.phases[-1].end):
            raise UsageError(f"the phases have {self.phases[-1].end} steps, but the trainer does {steps}")
        total_steps = self.phases[0].end if self.phases else steps
        before = self.masking
        if before is not None:
            before.remove()
            if saved is None and before.model is unwrap(model):
                before.begin_phase(before.step, None if steps is None else before.step + steps)
                saved = self.state()
        arguments: MaskingArguments = {"total_steps": total_steps, **self.options}
        self.masking = Masking(model, optimizer, **arguments, snip_batches=self.snip_batches)
        if self.phases:
            self.superposition = Superposition(self.masking.masks, self.masking.target_nnz)
        if saved is not None:
            self.masking.load_state_dict(saved["masking"])
            if self.superposition is not None:
                self.superposition.load_state_dict(saved["superposition"], like=model.state_dict())

    def state(self) -> CallbackState:
        """What a checkpoint must hold."""
        state: CallbackState = {}
        if self.masking is not None:
            state["masking"] = self.masking.state_dict()
        if self.superposition is not None:
            state["superposition"] = self.superposition.state_dict()
        return state

    def before_step(self) -> None:
        """Before an optimizer step, as often as one likes."""
        assert self.masking is not None
        step = self.masking.step
        phase = next((phase for phase in self.phases if step < phase.end), None)
        if phase is not None:
            self.masking.begin_phase(phase.start, phase.end, updates=phase.updates, explore=phase.explore)
            for group in self.masking.optimizer.param_groups:
                group["lr"] = phase.lr(step - phase.start)

    def after_step(self) -> None:
        """After an optimizer step, as often as one likes, also where it was skipped."""
        assert self.masking is not None
        ended = sum(phase.ticket and phase.end <= self.masking.step for phase in self.phases)
        if self.superposition is not None and self.superposition.tickets < ended:
            self.superposition.add(take_ticket(self.masking.model.state_dict(), self.masking.masks))

    def end(self) -> None:
        """Training ends."""
        planned = sum(phase.ticket for phase in self.phases)
        if self.superposition is not None and self.superposition.tickets < planned:
            warnings.warn(f"training ended with {self.superposition.tickets} of {planned} tickets", stacklevel=2)
