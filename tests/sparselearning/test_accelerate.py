"""Masking with a model and an optimizer that Accelerate prepared: parts of batches, skipped steps, checkpoints."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from torch import Tensor, nn
from torch.nn import functional as F

from sparselearning import Masking
from tests.exact import RIGL, STEPS, Exact, bits
from tests.tiny import Tiny, restored


@pytest.fixture(autouse=True)
def _leave_no_accelerator() -> Iterator[None]:
    with restored():
        yield


class Loop:
    """Everybody's loop with Accelerate: prepare, then Masking on what came back."""

    def __init__(self, parts: int = 2, scaler: torch.amp.GradScaler | None = None) -> None:
        torch.manual_seed(0)
        self.model = Tiny(10, dropout=0)
        optimizer = torch.optim.AdamW(self.model.parameters(), lr=0.01, weight_decay=0.1)
        self.accelerator = Accelerator(cpu=True, gradient_accumulation_steps=parts)
        self.accelerator.scaler = scaler  # as with fp16, which needs a GPU
        self.prepared, self.optimizer = self.accelerator.prepare(self.model, optimizer)
        assert type(self.optimizer) is AcceleratedOptimizer
        self.masking = Masking(self.prepared, self.optimizer, **RIGL)
        self.exact = Exact(self.masking, self.model)
        self.parts = parts

    def attempt(self, step: int, overflow: bool = False) -> None:
        """One optimizer step, and the checks while the gradients are there."""
        rng = torch.Generator().manual_seed(step)
        images, labels = torch.randn(8, 3, 32, 32, generator=rng), torch.randint(10, (8,), generator=rng)
        for part in zip(images.chunk(self.parts), labels.chunk(self.parts), strict=True):
            with self.accelerator.accumulate(self.prepared):
                self.accelerator.backward(self.loss(*part))
                if overflow:
                    self.model[0].weight.grad[0, 0, 0, 0] = torch.inf
                self.optimizer.step()
                if self.accelerator.sync_gradients and not self.optimizer.step_was_skipped:
                    self.exact()
                self.optimizer.zero_grad()
        assert self.optimizer.step_was_skipped == overflow

    def loss(self, images: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(self.prepared(images), labels)

    def state(self) -> dict[str, object]:
        optimizer, masking = self.optimizer.state_dict(), self.masking.state_dict()
        return bits({"model": dict(self.model.state_dict()), "optimizer": optimizer, "masking": masking})


def test_fifty_steps_and_three_updates_are_exact_with_accumulation() -> None:
    loop = Loop()
    for step in range(1, STEPS + 1):
        loop.attempt(step)
    loop.exact.end()


def scaler() -> torch.amp.GradScaler:
    return torch.amp.GradScaler("cpu", init_scale=2.0**10)  # of powers of two, so that scaling does not round


def test_steps_that_the_scaler_skips_count_for_nothing() -> None:
    """The first step, two before the update at step 15 and the update itself are tried again after an infinity."""
    plain, skipping = Loop(scaler=scaler()), Loop(scaler=scaler())
    for step in range(1, 21):
        plain.attempt(step)
        if step in (1, 14, 15, 16):
            before = skipping.state() | {"model": weights(skipping.model)}
            skipping.attempt(step, overflow=True)
            assert skipping.state() | {"model": weights(skipping.model)} == before
        skipping.attempt(step)
        assert weights(skipping.model) == weights(plain.model)
    assert bits(skipping.masking.state_dict()) == bits(plain.masking.state_dict())


def weights(model: nn.Module) -> dict[str, str]:
    """Without batch norm's statistics, which see the batch of a skipped step too."""
    return bits(dict(model.named_parameters()))


@pytest.mark.parametrize("step", [20, 40])
def test_save_state_and_load_state_restore_the_masks_to_the_same_bits(step: int, tmp_path: Path) -> None:
    whole = Loop()
    whole.accelerator.register_for_checkpointing(whole.masking)
    for done in range(1, STEPS + 1):
        whole.attempt(done)
        if done == step:
            whole.accelerator.save_state(str(tmp_path))
    resumed = Loop()
    resumed.accelerator.register_for_checkpointing(resumed.masking)
    resumed.accelerator.load_state(str(tmp_path))
    resumed.exact = Exact(resumed.masking, resumed.model, done=step)
    for done in range(step + 1, STEPS + 1):
        resumed.attempt(done)
    assert resumed.state() == whole.state()
