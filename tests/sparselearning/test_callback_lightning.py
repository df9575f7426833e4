"""The callback for the Trainer of Lightning, on a small convolutional network."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from sparselearning import UsageError
from tests.exact import DENSITY, PLAN, RIGL, STEPS, Exact, bits, superposed
from tests.tiny import Tiny

lightning = pytest.importorskip("lightning")
from lightning.pytorch import Callback, LightningModule, Trainer  # noqa: E402
from lightning.pytorch.callbacks import ModelCheckpoint  # noqa: E402

from sparselearning.callbacks.lightning import MaskingCallback  # noqa: E402

EPOCH = 10  # steps, of two batches each


class Module(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = Tiny(10, dropout=0)

    def training_step(self, batch: list[Tensor], index: int) -> Tensor:
        images, labels = batch
        return F.cross_entropy(self.net(images), labels)

    def test_step(self, batch: list[Tensor], index: int) -> None:
        pass

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=0.01, weight_decay=0.1)


class Loader:
    """Batches whose place in the epoch is saved in checkpoints, so that training goes on in the middle of one."""

    def __init__(self) -> None:
        self.position = 0

    def __len__(self) -> int:
        return 2 * EPOCH

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for position in range(self.position, len(self)):
            self.position = (position + 1) % len(self)
            rng = torch.Generator().manual_seed(position)
            yield torch.randn(4, 3, 32, 32, generator=rng), torch.randint(10, (4,), generator=rng)

    def state_dict(self) -> dict[str, int]:
        return {"position": self.position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.position = state["position"]


class Watch(Callback):
    """Checks every step while the gradients are still there."""

    def __init__(self, callback: MaskingCallback) -> None:
        self.callback = callback

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        assert self.callback.masking is not None
        self.exact = Exact(self.callback.masking, module)

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, *_: Any) -> None:
        if trainer.global_step > self.exact.steps:  # not after a batch that only adds to the gradients
            self.exact()


def make_trainer(folder: Path, *callbacks: Callback, **arguments: Any) -> Trainer:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    checkpoints = any(isinstance(callback, ModelCheckpoint) for callback in callbacks)
    settings = {"max_epochs": STEPS // EPOCH, "accumulate_grad_batches": 2, **quiet, **arguments}
    return Trainer(callbacks=list(callbacks), default_root_dir=folder, enable_checkpointing=checkpoints, **settings)


def test_fifty_steps_and_three_updates_are_exact(tmp_path):
    callback = MaskingCallback(**RIGL)
    watch = Watch(callback)
    make_trainer(tmp_path, callback, watch).fit(Module(), Loader())
    watch.exact.end()


def state_of(trainer: Trainer, callback: MaskingCallback) -> dict[str, Any]:
    """To the bit."""
    model, optimizer = trainer.lightning_module.state_dict(), trainer.optimizers[0].state_dict()
    return bits({"model": model, "optimizer": optimizer, "masking": callback.state()})


@pytest.mark.parametrize("step", [20, 28])
def test_a_resumed_training_ends_in_the_same_bits(step, tmp_path):
    """At the end of an epoch and in the middle of one."""
    whole = MaskingCallback(**RIGL)
    keep = ModelCheckpoint(tmp_path, "{step}", save_top_k=-1, every_n_train_steps=2)
    trainer = make_trainer(tmp_path, whole, keep)
    trainer.fit(Module(), Loader())
    resumed = MaskingCallback(**RIGL)
    second = make_trainer(tmp_path, resumed)
    second.fit(Module(), Loader(), ckpt_path=tmp_path / f"step={step}.ckpt")
    assert state_of(second, resumed) == state_of(trainer, whole)


class Norm(Callback):
    """The norm of the sub-network's gradient as the optimizer meets it."""

    def __init__(self) -> None:
        self.norms: list[float] = []

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, *_: Any) -> None:
        if trainer.global_step > len(self.norms):
            gradients = [p.grad for p in module.parameters()]
            self.norms.append(float(torch.cat([g.flatten() for g in gradients]).norm()))


@pytest.mark.parametrize("algorithm", ["norm", None])
def test_clipping_is_by_the_norm_of_the_sub_network(algorithm, tmp_path):
    norm = Norm()
    trainer = make_trainer(tmp_path, MaskingCallback(**RIGL), norm, gradient_clip_val=1e-2,
                           gradient_clip_algorithm=algorithm)  # fmt: skip
    trainer.fit(Module(), Loader())
    assert norm.norms == pytest.approx([1e-2] * STEPS, rel=1e-4)
    assert trainer.gradient_clip_val == 1e-2
    free = make_trainer(tmp_path, trainer.callbacks[0], max_epochs=1)
    free.fit(trainer.lightning_module, Loader())
    assert free.gradient_clip_val is None


def test_clipping_by_value_stays_what_it_was(tmp_path):
    callback = MaskingCallback(**RIGL)
    trainer = make_trainer(tmp_path, callback, gradient_clip_val=1e-4, gradient_clip_algorithm="value")
    trainer.fit(Module(), Loader())
    gradients = torch.cat([p.grad.flatten() for p in trainer.lightning_module.parameters()])
    assert gradients.abs().max() == pytest.approx(1e-4)


def test_steps_of_the_trainer_are_those_of_the_masks(tmp_path):
    callback = MaskingCallback("set", 0.2, update_frequency=10)
    make_trainer(tmp_path, callback).fit(Module(), Loader())
    assert (callback.masking.total_steps, callback.masking.step, callback.masking.updates) == (STEPS, STEPS, 4)


class Start(Callback):
    """What a training begins with."""

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        callback = next(c for c in trainer.callbacks if isinstance(c, MaskingCallback))
        self.state = bits({"model": module.state_dict(), "masks": callback.masking.masks})


def test_a_second_fit_goes_on_with_the_masks(tmp_path):
    callback, module, start = MaskingCallback("set", 0.2, update_frequency=20), Module(), Start()
    make_trainer(tmp_path, callback).fit(module, Loader())
    state = bits({"model": module.state_dict(), "masks": callback.masking.masks})
    make_trainer(tmp_path, callback, start, max_epochs=3).fit(module, Loader())
    assert start.state == state
    assert (callback.masking.step, callback.masking.updates) == (STEPS + 30, 2 + 1)


def test_a_fit_after_a_test_goes_on_with_the_masks_that_the_test_loaded(tmp_path):
    callback, module, start = MaskingCallback(**RIGL), Module(), Start()
    keep = ModelCheckpoint(tmp_path, "{step}", save_top_k=-1, every_n_train_steps=20)
    make_trainer(tmp_path, callback, keep).fit(module, Loader())
    make_trainer(tmp_path, callback).test(module, Loader(), ckpt_path=tmp_path / "step=20.ckpt", weights_only=True)
    make_trainer(tmp_path, callback, start, max_epochs=1).fit(module, Loader())
    saved = torch.load(tmp_path / "step=20.ckpt", weights_only=True)
    masks = saved["callbacks"]["MaskingCallback"]["masking"]["masks"]
    assert start.state == bits({"model": saved["state_dict"], "masks": masks})


def test_another_network_gets_masks_of_its_own(tmp_path):
    callback, module = MaskingCallback(**RIGL), Module()
    first = make_trainer(tmp_path, callback, max_epochs=2)
    first.fit(module, Loader())
    first.save_checkpoint(tmp_path / "first.ckpt")
    first.test(module, Loader(), ckpt_path=tmp_path / "first.ckpt")
    make_trainer(tmp_path, callback, max_epochs=1).fit(Module(), Loader())
    assert (callback.masking.step, callback.masking.updates) == (EPOCH, 0)


class TwoOptimizers(Module):
    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def configure_optimizers(self) -> Any:
        return [torch.optim.SGD(part.parameters(), lr=0.1) for part in (self.net[0], self.net[4])]


def test_two_optimizers_are_refused_in_one_line(tmp_path):
    with pytest.raises(UsageError, match="has 2 optimizers") as error:
        make_trainer(tmp_path, MaskingCallback(), accumulate_grad_batches=1).fit(TwoOptimizers(), Loader())
    assert "\n" not in str(error.value)


def test_a_checkpoint_without_masks_or_with_others_is_refused(tmp_path):
    dense = make_trainer(tmp_path, max_epochs=1)
    dense.fit(Module(), Loader())
    dense.save_checkpoint(tmp_path / "dense.ckpt")
    with pytest.raises(UsageError, match="holds no masks"):
        make_trainer(tmp_path, MaskingCallback(**RIGL)).fit(Module(), Loader(), ckpt_path=tmp_path / "dense.ckpt")
    sparse = make_trainer(tmp_path, MaskingCallback(**RIGL), max_epochs=1)
    sparse.fit(Module(), Loader())
    sparse.save_checkpoint(tmp_path / "sparse.ckpt")
    with pytest.raises(UsageError, match="saved masks"):
        other = MaskingCallback(**RIGL | {"density": 0.1})
        make_trainer(tmp_path, other).fit(Module(), Loader(), ckpt_path=tmp_path / "sparse.ckpt")


def test_a_plan_ends_in_the_superposition_of_its_tickets_and_resumes_in_a_cycle(tmp_path):
    whole = MaskingCallback("rigl", DENSITY, update_frequency=5, phases=PLAN)
    keep = ModelCheckpoint(tmp_path, "{step}", save_top_k=-1, every_n_train_steps=1)
    trainer = make_trainer(tmp_path, whole, keep)
    trainer.fit(Module(), Loader())
    states = {n: torch.load(tmp_path / f"step={n}.ckpt", weights_only=True)["state_dict"] for n in (30, 40, 50)}
    assert whole.superposition.tickets == 3
    assert bits(whole.superposition.ticket()) == bits(superposed(whole.masking, states.values()))
    assert trainer.optimizers[0].param_groups[0]["lr"] == PLAN[-1].lr(9)
    for step in (33, 40):
        resumed = MaskingCallback("rigl", DENSITY, update_frequency=5, phases=PLAN)
        second = make_trainer(tmp_path, resumed)
        second.fit(Module(), Loader(), ckpt_path=tmp_path / f"step={step}.ckpt")
        assert state_of(second, resumed) == state_of(trainer, whole)
