"""On a GPU: what the host waits for, as CUDA itself reports it, and the same choices as on a CPU."""

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor

from models import build
from sparselearning import Masking, Superposition, take_ticket
from sparselearning.selection import k_largest, k_largest_overall

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

METHODS = "rigl", "set", "granet", "snfs", "dsr"
EVERY = 3


def network(method: str, device: str) -> tuple[torch.nn.Module, torch.optim.Optimizer, Masking]:
    """Its weights never change, so that what moves depends on magnitudes and gradients that are equal everywhere."""
    torch.manual_seed(0)
    model = build("vgg16", 10, 0.25).to(device).to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0, momentum=0.9)
    options: dict[str, Any] = {"prune_end": 10 * EVERY} if method == "granet" else {}
    masking = Masking(model, optimizer, method, 0.1, sparse_init="uniform", update_frequency=EVERY, **options)
    masking.threshold = masking.threshold and 0.01
    return model, optimizer, masking


def give_gradients(model: torch.nn.Module, number: int) -> None:
    """Of few values, so that many are equal."""
    rng = torch.Generator().manual_seed(number)
    for weight in model.parameters():
        gradient = torch.randint(-3, 4, weight.shape, generator=rng).to(weight)
        weight.grad = gradient.to(memory_format=torch.channels_last) if weight.ndim == 4 else gradient


def waits_of_step(model: torch.nn.Module, optimizer: torch.optim.Optimizer, number: int) -> int:
    """How often the host waits for the device in an optimizer step."""
    give_gradients(model, number)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            optimizer.step()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return sum("synchronizing CUDA" in str(warning.message) for warning in caught)


def test_a_wait_is_reported() -> None:
    number = torch.ones((), device="cuda", requires_grad=True)
    optimizer = torch.optim.SGD([number], lr=0.1)

    def wait(*_: object) -> None:
        float(number)

    optimizer.register_step_pre_hook(wait)
    assert waits_of_step(torch.nn.ParameterList([number]), optimizer, 0) == 1


@pytest.mark.parametrize("method", METHODS)
def test_a_masked_step_never_waits_and_an_update_at_most_three_times(method: str) -> None:
    model, optimizer, masking = network(method, "cuda")
    counts = [waits_of_step(model, optimizer, number) for number in range(3 * EVERY)]
    assert masking.updates == 3 and masking.grown > 0
    for step, count in enumerate(counts[EVERY:], EVERY + 1):
        assert count <= (3 if step % EVERY == 0 else 0)


@pytest.mark.parametrize("method", METHODS)
def test_connections_move_as_on_a_cpu(method: str) -> None:
    runs = [network(method, device) for device in ("cpu", "cuda")]
    for number in range(3 * EVERY):
        for model, optimizer, _ in runs:
            give_gradients(model, number)
            optimizer.step()
        cpu, cuda = (masking for *_, masking in runs)
        assert cpu.active == cuda.active
        assert all(torch.equal(mask, cuda.masks[name].cpu()) for name, mask in cpu.masks.items())
    assert cuda.grown > 0
    for name, weight in cpu.weights.items():
        assert torch.equal(weight, cuda.weights[name].cpu())
    average = [Superposition(masking.masks, masking.nnz // 2) for masking in (cpu, cuda)]
    for superposition, (model, _, masking) in zip(average, runs, strict=True):
        superposition.add(take_ticket(model.state_dict(), masking.masks))
    one, other = (superposition.ticket() for superposition in average)
    assert all(torch.equal(tensor, other[name].cpu()) for name, tensor in one.items())


def tied(shape: tuple[int, ...], number: int, values: int) -> tuple[Tensor, Tensor]:
    """Scores of few values, infinities and NaN among them, and which positions are barred."""
    rng = torch.Generator().manual_seed(number)
    scores = torch.randint(values, shape, generator=rng).float()
    scores[scores == 1], scores[scores == 2] = torch.inf, torch.nan
    return scores, torch.rand(shape, generator=rng) < 0.5


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize("values", [1, 2, 5, 1000])
def test_the_same_are_selected_as_on_a_cpu(values: int, memory_format: torch.memory_format) -> None:
    layers = [tied(shape, i, values) for i, shape in enumerate([(1, 4, 1, 1), (64, 32, 3, 3), (300, 200, 3, 3)])]
    layers = [(s.to(memory_format=memory_format), b.to(memory_format=memory_format)) for s, b in layers]
    for scores, barred in layers:
        candidates = int((~barred).sum())
        for k in {min(1, candidates), candidates // 3, candidates} - {0}:
            chosen = k_largest(scores, k, barred)
            assert torch.equal(k_largest(scores.cuda(), k, barred.cuda()).cpu(), chosen) and chosen.sum() == k
    scored, barred_ = [scores for scores, _ in layers], [barred for _, barred in layers]
    for k in (3, 1000, 200_000):
        on_gpu = k_largest_overall([s.cuda() for s in scored], k, [b.cuda() for b in barred_])
        for mask, chosen in zip(on_gpu, k_largest_overall(scored, k, barred_), strict=True):
            assert torch.equal(mask.cpu(), chosen)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_nothing_outside_the_masks_is_left(dtype: torch.dtype) -> None:
    layer = torch.nn.Linear(50, 40, bias=False, device="cuda", dtype=dtype)
    masking = Masking(layer, torch.optim.SGD(layer.parameters(), lr=0.1), "static", 0.1)
    outside = ~masking.masks["weight"]
    for value in (torch.nan, torch.inf, -torch.inf, -0.0, -1.0):
        layer.weight.grad = torch.where(outside, value, torch.ones_like(layer.weight))
        masking.optimizer.step()
        for tensor in (layer.weight, layer.weight.grad):
            assert not tensor[outside].signbit().any() and not tensor[outside].count_nonzero()
