"""The loss: smoothed labels, and distillation as in Sup-tickets, Appendix G, labels and each of M teachers alike."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from safetensors.torch import load_file
from torch import Tensor, nn

import main_cifar
from sparselearning.flops import layer_costs
from tests.tiny import SPARSE, Tiny, main
from utils.training.costs import Costs
from utils.training.loop import _backward

OF = (*SPARSE, "--model", "norm", "--epochs", "3")


def networks(count: int) -> list[Tiny]:
    torch.manual_seed(0)
    return [Tiny(10, dropout=0) for _ in range(count)]


def loss_by_hand(logits: Tensor, labels: Tensor, teachers: list[Tensor], t: float, smoothing: float = 0.0) -> Tensor:
    """(CE + Σ_m T²·Σ_c p_m(c)·log(p_m(c) / q(c))) / (1 + M), p and q at temperature T; mean over the batch.

    Of smoothed labels (Szegedy et al. 2016): (1 − ε) of a label is its own class's, ε goes to all classes alike.
    """
    wanted = torch.full_like(logits, smoothing / logits.shape[1])
    wanted[range(len(labels)), labels] += 1 - smoothing
    losses = [-(wanted * logits.softmax(1).log()).sum(1)]
    q = (logits / t).exp() / (logits / t).exp().sum(1, keepdim=True)
    for teacher in teachers:
        p = (teacher / t).exp() / (teacher / t).exp().sum(1, keepdim=True)
        losses.append(t**2 * (p * (p / q).log()).sum(1))
    return torch.stack(losses).mean(0).mean()


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("temperature", [1.0, 4.0])
@pytest.mark.parametrize("count", [0, 1, 3])
def test_the_gradient_is_that_of_the_mean_of_hard_and_soft_losses(
    count: int, temperature: float, smoothing: float
) -> None:
    """Also where a batch comes in unequal parts."""
    student, *teachers = networks(1 + count)
    teachers = [teacher.eval().requires_grad_(False) for teacher in teachers]
    before = [{name: tensor.clone() for name, tensor in teacher.state_dict().items()} for teacher in teachers]
    student.eval()  # batch norm would see the parts
    images, labels = torch.randn(9, 3, 32, 32), torch.arange(9)
    options = SimpleNamespace(
        compile=False, label_smoothing=smoothing, temperature=temperature, batch_size=6, batch_repetitions=None
    )
    run: Any = SimpleNamespace(
        accelerator=Accelerator(cpu=True), wrapped=student, model=student, teachers=teachers, options=options
    )
    counted = _backward(run, [(images[:4], labels[:4]), (images[4:], labels[4:])], 9)
    found = [parameter.grad.clone() for parameter in student.parameters()]

    student.zero_grad()
    with torch.no_grad():
        taught = [teacher(images) for teacher in teachers]
    loss_by_hand(student(images), labels, taught, temperature, smoothing).backward()
    for gradient, parameter in zip(found, student.parameters(), strict=True):
        torch.testing.assert_close(gradient, parameter.grad, rtol=1e-4, atol=1e-7)
    hard = 9 * loss_by_hand(student(images), labels, [], 1, smoothing).item()
    assert sum(loss.item() for loss, *_ in counted) == pytest.approx(hard, rel=1e-5)
    for teacher, state in zip(teachers, before, strict=True):
        assert all(parameter.grad is None for parameter in teacher.parameters())
        assert all(torch.equal(tensor, state[name]) for name, tensor in teacher.state_dict().items())
    AcceleratorState._reset_state()


def test_a_student_of_its_own_copies_learns_from_the_labels_alone() -> None:
    """KL is 0 between equals, so that M of them divide the gradient by 1 + M."""
    student, other = networks(1)[0].eval(), networks(1)[0].eval()
    images, labels = torch.randn(6, 3, 32, 32), torch.arange(6)
    gradients = []
    for teachers in ([], [other] * 2):
        options = SimpleNamespace(
            compile=False, label_smoothing=0.0, temperature=3.0, batch_size=6, batch_repetitions=None
        )
        run: Any = SimpleNamespace(
            accelerator=Accelerator(cpu=True), wrapped=student, model=student, teachers=teachers, options=options
        )
        student.zero_grad()
        _backward(run, [(images, labels)], 6)
        gradients.append([parameter.grad.clone() for parameter in student.parameters()])
    for alone, taught in zip(*gradients, strict=True):
        torch.testing.assert_close(alone / 3, taught, rtol=1e-4, atol=1e-7)
    AcceleratorState._reset_state()


def test_a_run_learns_from_the_tickets_it_is_given_and_leaves_them_alone(tmp_path: Path) -> None:
    edst = ("--edst", "--exploration-epochs", "1", "--refine-epochs", "1")
    assert main(tmp_path / "teachers", *OF[:-2], *edst)[0] == 0
    paths = sorted((tmp_path / "teachers/tickets").glob("*"))
    teachers: list[nn.Module] = []
    make_teachers = main_cifar.make_teachers

    def seen(*args: Any) -> list[nn.Module]:
        teachers.extend(make_teachers(*args))
        return teachers

    weights = {}
    with mock.patch.object(main_cifar, "make_teachers", seen):
        for name, words in (("taught", ("--distill", *map(str, paths))), ("alone", ())):
            teachers.clear()
            assert main(tmp_path / name, *OF, *words)[0] == 0
            weights[name] = load_file(tmp_path / name / "ticket.safetensors")
            assert len(teachers) == (3 if words else 0)
            for teacher, path in zip(teachers, paths if words else (), strict=True):
                assert not teacher.training
                for key, tensor in load_file(path).items():
                    assert torch.equal(teacher.state_dict()[key], tensor)  # statistics of batch norm too
    assert not torch.equal(weights["taught"]["8.weight"], weights["alone"]["8.weight"])


def test_each_teacher_costs_a_forward_pass_in_every_step() -> None:
    student, dense, sparse = networks(3)
    macs = {"0.weight": 27 * 8 * 8 * 8, "4.weight": 72 * 16 * 3 * 3, "8.weight": 160}
    assert {name: cost.fan_in * cost.outputs for name, cost in layer_costs(student, (3, 32, 32)).items()} == macs
    sparse.get_parameter("0.weight").data[:2] = 0  # a quarter of the connections of the first layer
    costs = Costs(student, None, (3, 32, 32), [dense, sparse])
    for _ in range(5):
        costs.add_step()
    total = sum(macs.values())
    assert costs.steps["plain"] == pytest.approx(5 * (3 * total + total + total - macs["0.weight"] / 4) / (3 * total))
    assert costs.test_ratio() == 1.0  # the student's own


def test_a_teacher_of_another_width_or_model_is_refused(tmp_path: Path) -> None:
    assert main(tmp_path / "other", *SPARSE, "--model", "plain", "--epochs", "1")[0] == 0
    ticket = str(tmp_path / "other/ticket.safetensors")
    status, _, err = main(tmp_path / "run", *OF, "--distill", ticket)
    assert status == 2 and err.count("\n") == 1 and f"{ticket} belongs to another model" in err
