"""Masks have the plain names of the model, whatever it and its optimizer are wrapped in."""

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from sparselearning import Masking
from tests.exact import RIGL, STEPS, Exact, bits
from tests.networks import network, sgd, train
from tests.tiny import Tiny

Wrapped = tuple[nn.Module, Any, Callable[[Tensor], Any]]  # and what computes the gradients of a loss
Wrap = Callable[[nn.Module, torch.optim.Optimizer], Wrapped]


def module(*wrappers: Callable[[nn.Module], nn.Module]) -> Wrap:
    def wrap(model: nn.Module, optimizer: torch.optim.Optimizer) -> Wrapped:
        for wrapper in wrappers:
            model = wrapper(model)
        return model, optimizer, Tensor.backward

    return wrap


def fabric(*wrappers: Callable[[nn.Module], nn.Module], **options: Any) -> Wrap:
    def wrap(model: nn.Module, optimizer: torch.optim.Optimizer) -> Wrapped:
        fabric = pytest.importorskip("lightning.fabric").Fabric(accelerator="cpu", devices=1, **options)
        fabric.launch()
        return *fabric.setup(module(*wrappers)(model, optimizer)[0], optimizer), fabric.backward

    return wrap


def compiled(model: nn.Module) -> nn.Module:
    return torch.compile(model, backend="eager")


WRAPPERS: dict[str, Wrap] = {
    "nothing": module(),
    "data parallel": module(nn.DataParallel),
    "compiled": module(compiled),
    "ddp": module(DistributedDataParallel),
    "ddp, compiled": module(DistributedDataParallel, compiled),
    "compiled, ddp": module(compiled, DistributedDataParallel),
    "fabric": fabric(),
    "fabric, bf16": fabric(precision="bf16-mixed"),
    "fabric, compiled": fabric(compiled),
    "fabric, ddp": fabric(strategy="ddp"),
}


@contextlib.contextmanager
def process_group() -> Iterator[None]:
    """Of this process alone."""
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        yield
    finally:
        torch.distributed.destroy_process_group()


@functools.cache
def trained(name: str) -> tuple[nn.Module, Exact]:
    torch.manual_seed(0)
    model = Tiny(10, dropout=0)
    wrapped, optimizer, backward = WRAPPERS[name](model, torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9))
    exact = Exact(Masking(wrapped, optimizer, **RIGL), model)
    for step in range(STEPS):
        rng = torch.Generator().manual_seed(step)
        images, labels = torch.randn(4, 3, 32, 32, generator=rng), torch.randint(10, (4,), generator=rng)
        backward(F.cross_entropy(wrapped(images), labels))
        optimizer.step()
        exact()
        optimizer.zero_grad()
    return model, exact


@pytest.mark.parametrize("name", WRAPPERS)
def test_wrapped_training_is_plain_training_under_plain_names(name: str) -> None:
    plain, exact = trained("nothing")
    with process_group() if "ddp" in name else contextlib.nullcontext():
        model, wrapped = trained(name)
    assert list(wrapped.masking.masks) == list(exact.masking.masks)
    wrapped.end()
    if "bf16" not in name:
        assert bits(model.state_dict()) == bits(plain.state_dict())


# ---- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrap", [torch.compile, nn.DataParallel, lambda m: nn.DataParallel(torch.compile(m))])
def test_wrappers_leave_no_trace_in_names(wrap: Callable[[nn.Module], nn.Module]) -> None:
    model = network()
    wrapped = wrap(model)
    masking = Masking(wrapped, sgd(wrapped), "static", 0.1)
    assert list(masking.masks) == ["0.weight", "4.weight"]
    plain = network()
    assert bits(masking.masks) == bits(Masking(plain, sgd(plain), "static", 0.1).masks)


class WithPartNamedModule(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.module = nn.Linear(4, 4)
        self.head = nn.Linear(4, 2)


def test_a_part_that_is_called_module_is_no_wrapper() -> None:
    model = WithPartNamedModule()
    assert list(Masking(model, sgd(model), "static", 0.5).masks) == ["module.weight", "head.weight"]


class OptimizerWrapper:
    def __init__(self, optimizer: Any) -> None:
        self.optimizer = optimizer

    def step(self) -> None:
        self.optimizer.step()


def test_an_optimizer_within_wrappers_is_found() -> None:
    model = network()
    optimizer = sgd(model)
    masking = Masking(model, OptimizerWrapper(OptimizerWrapper(optimizer)), "rigl", 0.1)
    train(model, optimizer, range(2))
    assert masking.step == 2
