"""The callback for the Trainer of Hugging Face, on BERT and GPT-2 of a few thousand weights."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from sparselearning import UsageError, take_ticket
from tests.exact import RIGL, STEPS, UPDATES, Exact, bits

pytest.importorskip("transformers")
from transformers import TrainerCallback

from sparselearning.callbacks.transformers import MaskingCallback
from tests.hf import MODELS, make_trainer, state_of

every_model = pytest.mark.parametrize("name", MODELS)


class Watch(TrainerCallback):
    """Checks every step while the gradients are still there."""

    def __init__(self, callback: MaskingCallback) -> None:
        self.callback = callback

    def on_train_begin(self, args: Any, state: Any, control: Any, model: nn.Module, **kwargs: Any) -> None:
        assert self.callback.masking is not None
        self.exact = Exact(self.callback.masking, model)

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.exact()


@every_model
def test_fifty_steps_and_three_updates_are_exact(name, tmp_path):
    callback = MaskingCallback(**RIGL)
    watch = Watch(callback)
    trainer = make_trainer(name, tmp_path, callback, watch)
    trainer.train()
    ticket = watch.exact.end()
    assert len(callback.masking.masks) == {"bert": 6 + 2, "gpt2": 4}[name]  # no embedding, no tied head
    trainer.save_model(tmp_path / "final")
    loaded = type(trainer.model).from_pretrained(tmp_path / "final")
    assert bits(loaded.state_dict()) == bits(trainer.model.state_dict())
    assert sum(int((ticket[n] != 0).sum()) for n in callback.masking.masks) == callback.masking.nnz


@every_model
def test_a_resumed_training_ends_in_the_same_bits(name, tmp_path):
    whole = MaskingCallback(**RIGL)
    trainer = make_trainer(name, tmp_path, whole)
    trainer.train()
    resumed = MaskingCallback(**RIGL)
    second = make_trainer(name, tmp_path / "elsewhere", resumed)
    second.train(resume_from_checkpoint=str(tmp_path / "checkpoint-20"))
    assert state_of(second, resumed) == state_of(trainer, whole)


class Norm(TrainerCallback):
    """The norm of the sub-network's gradient as the optimizer met it."""

    def __init__(self) -> None:
        self.norms: list[float] = []

    def on_optimizer_step(self, args: Any, state: Any, control: Any, model: nn.Module, **kwargs: Any) -> None:
        gradients = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
        self.norms.append(float(torch.cat(gradients).norm()))


@every_model
def test_clipping_is_by_the_norm_of_the_sub_network(name, tmp_path):
    norm = Norm()
    trainer = make_trainer(name, tmp_path, MaskingCallback(**RIGL), norm, max_grad_norm=1e-2)
    trainer.train()
    assert norm.norms == pytest.approx([1e-2] * STEPS, rel=1e-4)
    assert trainer.args.max_grad_norm == 1e-2


class Interrupt(TrainerCallback):
    """As a user does in a notebook, once, in the middle of a step."""

    def on_substep_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == 2:
            raise KeyboardInterrupt


def test_an_interrupted_step_and_another_trainer_leave_clipping_as_it_was(tmp_path):
    callback, norm = MaskingCallback(**RIGL), Norm()
    trainer = make_trainer("bert", tmp_path, callback, norm, Interrupt(), max_grad_norm=1e-2, max_steps=4)
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    trainer.remove_callback(Interrupt)
    trainer.train()
    assert norm.norms == pytest.approx([1e-2] * (2 + 4), rel=1e-4)
    assert trainer.args.max_grad_norm == 1e-2
    norm.norms = []
    free = make_trainer("bert", tmp_path, callback, norm, max_grad_norm=0.0, max_steps=4)
    free.train()
    assert min(norm.norms) > 0.1
    assert free.args.max_grad_norm == 0


def test_steps_of_the_trainer_are_those_of_the_masks(tmp_path):
    callback = MaskingCallback("set", 0.2, update_frequency=10)
    make_trainer("bert", tmp_path, callback).train()
    assert (callback.masking.total_steps, callback.masking.step, callback.masking.updates) == (STEPS, STEPS, 4)


def test_a_second_training_goes_on_with_the_masks(tmp_path):
    callback = MaskingCallback("set", 0.2, update_frequency=4)
    trainer = make_trainer("bert", tmp_path, callback, max_steps=10)
    trainer.train()
    masks = bits(callback.masking.masks)
    start = Start()
    trainer.add_callback(start)
    trainer.train()
    assert start.masks == masks
    assert (callback.masking.step, callback.masking.updates) == (2 * 10, 2 * 2)


class Start(TrainerCallback):
    """The masks with which a training begins; it comes after the callback that makes them."""

    def on_train_begin(self, args: Any, state: Any, control: Any, optimizer: Any, **kwargs: Any) -> None:
        self.masks = bits(optimizer.state_dict()["state"]["sparse training"]["masking"]["masks"])


def test_the_best_model_comes_with_its_masks(tmp_path):
    """The largest loss is taken for the best, so that it is not the last."""
    callback = MaskingCallback(**RIGL)
    trainer = make_trainer("gpt2", tmp_path, callback, load_best_model_at_end=True, save_steps=10, eval_steps=10,
                           eval_strategy="steps", metric_for_best_model="loss", greater_is_better=True)  # fmt: skip
    trainer.train()
    best = Path(trainer.state.best_model_checkpoint)
    saved = torch.load(best / "optimizer.pt", weights_only=True)["state"]["sparse training"]["masking"]
    assert saved["updates"] < UPDATES
    assert bits(callback.masking.masks) == bits(saved["masks"])
    take_ticket(trainer.model.state_dict(), callback.masking.masks)


def test_what_cannot_be_right_is_refused_in_one_line(tmp_path):
    short = {"max_steps": 2, "save_steps": 2}
    make_trainer("bert", tmp_path / "dense", **short).train()
    with pytest.raises(UsageError, match="holds no masks"):
        make_trainer("bert", tmp_path, MaskingCallback(**RIGL)).train(str(tmp_path / "dense/checkpoint-2"))
    make_trainer("bert", tmp_path / "sparse", MaskingCallback(**RIGL), **short).train()
    with pytest.raises(UsageError, match="saved masks"):
        other = MaskingCallback(**RIGL | {"density": 0.1})
        make_trainer("bert", tmp_path, other).train(str(tmp_path / "sparse/checkpoint-2"))
    with pytest.raises(UsageError, match='optim="adamw_torch"'):
        trainer = make_trainer("bert", tmp_path, MaskingCallback(**RIGL), optim="adamw_torch_fused")
        trainer.args.fp16 = True
        trainer.train()
    with pytest.raises(UsageError, match="save_only_model=False"):
        make_trainer("bert", tmp_path, MaskingCallback(**RIGL), load_best_model_at_end=True, save_only_model=True,
                     eval_strategy="steps", eval_steps=20).train()  # fmt: skip
