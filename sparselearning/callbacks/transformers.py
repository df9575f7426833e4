"""Sparse training in the Trainer of Hugging Face."""

from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer import OPTIMIZER_NAME

from sparselearning.callbacks.base import SparseTraining
from sparselearning.errors import UsageError

_KEY = "sparse training"  # beside the parameters in the state of the optimizer


class MaskingCallback(SparseTraining, TrainerCallback):
    """Keeps the network of a Trainer sparse.

        Trainer(model, args, train_dataset=data, callbacks=[MaskingCallback("rigl", density=0.1)]).train()

    Masking begins when training does, with the optimizer that the Trainer makes then. The masks are saved with the
    optimizer in every checkpoint, so that `resume_from_checkpoint` goes on to the same bits; with
    `load_best_model_at_end` they are in the end those of the best model. A Trainer clips gradients before the
    optimizer meets them, and would measure those of inactive weights too: the callback does what `max_grad_norm` says
    in its place, by the norm of the sub-network. The `grad_norm` in the log remains that of the dense gradient.

    Arguments and attributes are those of `SparseTraining`.

    Raises:
        UsageError: when training begins: the options do not fit the model or the Trainer, a checkpoint to resume from
            holds no masks or those of other options, checkpoints of the best model would be saved without masks, or the
            optimizer hides skipped steps.
    """

    _max_grad_norm: float | None = None  # the Trainer's, while the callback clips in its place

    # `kwargs` are the Trainer's: its model, its optimizer and more
    def on_train_begin(  # type: ignore[explicit-any]
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        optimizer = kwargs["optimizer"]
        if args.load_best_model_at_end and args.save_only_model:
            raise UsageError(
                "the masks are saved with the optimizer: load_best_model_at_end needs save_only_model=False"
            )
        if args.fp16 and any(group.get("fused") for group in optimizer.param_groups):
            raise UsageError(
                'a fused optimizer hides which steps fp16 skips: give TrainingArguments optim="adamw_torch", or bf16'
            )
        # loaded with the rest of the optimizer; a Trainer tells no callback from which folder it resumes
        saved = optimizer.state.pop(_KEY, None)
        if saved is None and state.global_step > 0:
            raise UsageError(
                "the checkpoint holds no masks: it was saved without MaskingCallback or with save_only_model"
            )
        self.begin(kwargs["model"], optimizer, state.max_steps, saved)
        assert self.masking is not None
        self.masking.optimizer.register_state_dict_post_hook(self._save)

    def _save(self, optimizer: torch.optim.Optimizer, state_dict: dict[str, dict[str, object]]) -> None:
        state_dict["state"][_KEY] = self.state()

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        self.before_step()
        if self._max_grad_norm is None:  # else a step was interrupted, and it is taken already
            self._max_grad_norm, args.max_grad_norm = args.max_grad_norm, 0.0

    def on_pre_optimizer_step(  # type: ignore[explicit-any]
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        assert self.masking is not None and self._max_grad_norm is not None
        args.max_grad_norm, self._max_grad_norm = self._max_grad_norm, None
        if args.max_grad_norm > 0:
            self.masking.clip_grad_norm_(kwargs["model"].parameters(), args.max_grad_norm)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        self.after_step()

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        self.end()
        if args.load_best_model_at_end and state.best_model_checkpoint is not None:
            path = Path(state.best_model_checkpoint) / OPTIMIZER_NAME
            saved = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
            assert self.masking is not None
            self.masking.load_state_dict(saved["state"][_KEY]["masking"])
