"""Sparse training in the Trainer of Lightning."""

import math
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from sparselearning.callbacks.base import CallbackState, SparseTraining
from sparselearning.errors import UsageError


class MaskingCallback(SparseTraining, Callback):
    """Keeps the network of a LightningModule sparse.

        Trainer(max_epochs=10, callbacks=[MaskingCallback("rigl", density=0.1)]).fit(module, loader)

    Masking begins when training does. The masks are saved in every checkpoint, so that `fit(..., ckpt_path=...)` goes
    on to the same bits. Lightning clips gradients before the optimizer meets them, and would measure those of inactive
    weights too: the callback does what `gradient_clip_val` says in its place, by the norm of the sub-network.

    Arguments and attributes are those of `SparseTraining`.

    Raises:
        UsageError: when training begins: the options do not fit the model or the Trainer, there is not one optimizer,
            or a checkpoint to resume from holds no masks or those of other options.
    """

    _saved: tuple[LightningModule, CallbackState | None] | None = None  # what was loaded last, and into what
    _clip_val: float | None = None  # the Trainer's, while the callback clips in its place

    def state_dict(self) -> dict[str, object]:
        return {**self.state()}

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:  # type: ignore[explicit-any]  # as Lightning calls it
        # the weights are loaded, but there are no optimizers yet; validate and test load checkpoints too
        self._saved = pl_module, checkpoint["callbacks"].get(self.state_key)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if len(trainer.optimizers) != 1:
            raise UsageError(
                f"{type(pl_module).__name__} has {len(trainer.optimizers)} optimizers: in place of this callback make "
                f"a Masking for each in configure_optimizers, of the part whose weights it holds"
            )
        module, saved = self._saved or (None, None)
        if trainer.ckpt_path is not None and saved is None:
            raise UsageError("the checkpoint holds no masks: it was saved without MaskingCallback")
        steps = trainer.estimated_stepping_batches  # asked any earlier, it keeps loaders from being resumed
        finite = int(steps) if math.isfinite(steps) else None
        self.begin(pl_module, trainer.optimizers[0], finite, saved if module is pl_module else None)
        self._saved = None

    def on_train_batch_start(self, *_: object) -> None:
        self.before_step()

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        if trainer.gradient_clip_val and trainer.gradient_clip_algorithm != "value":
            assert self.masking is not None
            self._clip_val, trainer.gradient_clip_val = trainer.gradient_clip_val, None
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            self.masking.clip_grad_norm_(parameters, self._clip_val)

    def on_train_batch_end(self, trainer: Trainer, *_: object) -> None:
        self._give_back_clipping(trainer)
        self.after_step()

    def on_exception(self, trainer: Trainer, *_: object) -> None:
        self._give_back_clipping(trainer)

    def _give_back_clipping(self, trainer: Trainer) -> None:
        if self._clip_val is not None:
            trainer.gradient_clip_val, self._clip_val = self._clip_val, None

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.end()
