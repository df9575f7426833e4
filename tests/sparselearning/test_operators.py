"""The operators of sparse training beside those of dense training, and its waits for a GPU, counted without one."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from models import build
from sparselearning import Masking, selection
from tests.operators import Count, count

METHODS = "rigl", "set", "granet", "snfs", "dsr"
FORMATS = torch.contiguous_format, torch.channels_last
EVERY = 3


def operators_of_steps(
    model: str, method: str | None, memory_format: torch.memory_format, steps: int
) -> tuple[list[Count], int]:
    """The count of each optimizer step, with a topology update in every third, and the number of masked layers."""
    torch.manual_seed(0)
    network = build(model, 10, 0.25).to(memory_format=memory_format)  # as many layers as the whole one
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4, foreach=True)
    options: dict[str, Any] = {"prune_end": 10 * EVERY} if method == "granet" else {}
    layers = 0
    if method is not None:  # at uniform density connections move in every layer
        masking = Masking(network, optimizer, method, 0.1, sparse_init="uniform", update_frequency=EVERY, **options)
        masking.threshold = masking.threshold and 0.01  # so that DSR drops some
        layers = len(masking.weights)
    counts = []
    for _ in range(steps):
        for parameter in network.parameters():
            parameter.grad = torch.randn_like(parameter)
        counts.append(count(optimizer.step))
    if method is not None:
        assert masking.updates == steps // EVERY and (masking.grown > 0) == (steps >= EVERY)
    return counts, layers


@pytest.fixture
def as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selection, "_by_counting", selection._by_topk)


@pytest.mark.parametrize("model", ["vgg16", "resnet50"])
@pytest.mark.parametrize("method", METHODS)
def test_a_masked_step_adds_at_most_four_operators_and_no_wait(method: str, model: str) -> None:
    (_, dense), _ = operators_of_steps(model, None, torch.channels_last, 2)
    (_, masked), layers = operators_of_steps(model, method, torch.channels_last, 2)
    assert layers == {"vgg16": 15, "resnet50": 54}[model]
    assert masked.operators.total() <= dense.operators.total() + 4
    assert not masked.waits


@pytest.mark.usefixtures("as_on_a_gpu")
@pytest.mark.parametrize("memory_format", FORMATS, ids=str)
@pytest.mark.parametrize("model", ["vgg16", "resnet50"])
@pytest.mark.parametrize("method", METHODS)
def test_an_update_waits_at_most_three_times_and_has_at_most_forty_operators_a_layer(
    method: str, model: str, memory_format: torch.memory_format
) -> None:
    counts, layers = operators_of_steps(model, method, memory_format, 2 * EVERY)
    ordinary, update = counts[-2:]
    assert update.waits.total() <= 3
    assert 10 * layers < update.operators.total() - ordinary.operators.total() <= 40 * layers


# ---- the count -------------------------------------------------------------------------------------------------------

NUMBERS, SOME = torch.tensor([3, 0, 2, 0]), torch.tensor([True, False, True, False])


@pytest.mark.parametrize(
    "wait",
    [
        lambda: NUMBERS[0].item(),
        lambda: float(NUMBERS.sum()),
        lambda: bool(SOME.any()),
        lambda: NUMBERS.tolist(),
        lambda: NUMBERS.cpu(),
        lambda: NUMBERS.nonzero(),
        lambda: NUMBERS[SOME],
        lambda: NUMBERS.clone().__setitem__(SOME, 1),
        lambda: NUMBERS.masked_select(SOME),
        lambda: NUMBERS.bincount(),
        lambda: NUMBERS.unique(),
        lambda: torch.equal(NUMBERS, NUMBERS),
        lambda: torch.tensor([1, 2]),
        lambda: NUMBERS.to(torch.device("cpu")),
        lambda: NUMBERS.to(device="cpu"),
    ],
)
def test_whatever_makes_the_host_wait_is_counted(wait: Callable[[], object]) -> None:
    assert count(wait).waits.total() >= 1


def test_what_stays_on_the_device_is_no_wait_and_a_foreach_is_one_operator() -> None:
    def work() -> None:
        weights = [torch.empty(4), torch.empty(4)]
        torch._foreach_zero_(weights)
        weights[0].view(2, 2).add_(1)
        weights[1].index_fill_(0, NUMBERS.argmax(), 1).to(torch.device("cpu"), non_blocking=True)

    counted = count(work)
    assert not counted.waits
    names = {"aten._foreach_zero_": 1, "aten.add_": 1, "aten.argmax": 1, "aten.index_fill_": 1}
    assert counted.operators == names
