"""The callback for the Trainer of Hugging Face with a plan of phases, and in two processes."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from sparselearning import UsageError
from tests.exact import DENSITY, PLAN, bits, superposed
from tests.processes import launch

pytest.importorskip("transformers")
from transformers import TrainerCallback

from sparselearning.callbacks.transformers import MaskingCallback
from tests.hf import make_trainer, state_of


def test_two_processes_have_the_same_masks_and_resume_to_the_same_bits(tmp_path):
    assert launch(2, whole_and_resumed, tmp_path) == [0, 0]
    first, second = (torch.load(tmp_path / str(rank)) for rank in range(2))
    assert first == second
    assert first["masking"]["masking"]["updates"] == 2


def whole_and_resumed(folder: Path) -> None:
    rank = os.environ["RANK"]
    ends = []
    for checkpoint in (None, str(folder / "checkpoint-4")):
        callback = MaskingCallback("rigl", DENSITY, update_frequency=3)
        trainer = make_trainer("bert", folder, callback, max_steps=8, save_steps=4, ddp_backend="gloo")
        trainer.train(checkpoint)
        assert trainer.args.world_size == 2
        ends.append(state_of(trainer, callback))
    assert ends[0] == ends[1]
    torch.save(ends[0], folder / rank)


class Rates(TrainerCallback):
    """The learning rate of each step, before the Trainer's scheduler changes it."""

    def __init__(self) -> None:
        self.rates: list[float] = []

    def on_optimizer_step(self, args: Any, state: Any, control: Any, optimizer: Any, **kwargs: Any) -> None:
        assert len({group["lr"] for group in optimizer.param_groups}) == 1
        self.rates.append(optimizer.param_groups[0]["lr"])


def test_a_plan_ends_in_the_superposition_of_its_tickets_and_resumes_in_a_cycle(tmp_path):
    whole, rates = MaskingCallback("rigl", DENSITY, update_frequency=5, phases=PLAN), Rates()
    trainer = make_trainer("bert", tmp_path, whole, rates, save_steps=5)
    trainer.train()
    assert rates.rates == [phase.lr(step - phase.start) for phase in PLAN for step in range(phase.start, phase.end)]
    assert whole.masking.updates == 3 + 3  # at 5, 10 and 15, and where each cycle begins
    ends = [load_file(tmp_path / f"checkpoint-{step}/model.safetensors") for step in (30, 40, 50)]
    ticket = superposed(whole.masking, ends)
    assert whole.superposition.tickets == 3
    assert bits({name: whole.superposition.ticket()[name] for name in ticket}) == bits(ticket)
    for step in (35, 40):
        resumed = MaskingCallback("rigl", DENSITY, update_frequency=5, phases=PLAN)
        second = make_trainer("bert", tmp_path / "elsewhere", resumed)
        second.train(str(tmp_path / f"checkpoint-{step}"))
        assert state_of(second, resumed) == state_of(trainer, whole)


def test_a_plan_of_other_steps_is_refused_and_missing_tickets_are_told(tmp_path):
    with pytest.raises(UsageError, match="the phases have 50 steps, but the trainer does 40"):
        make_trainer("bert", tmp_path, MaskingCallback(phases=PLAN), max_steps=40).train()
    with pytest.warns(UserWarning, match="1 of 3 tickets"):
        make_trainer("bert", tmp_path, MaskingCallback(phases=PLAN), Stop()).train()


class Stop(TrainerCallback):
    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        control.should_training_stop = state.global_step == 35
