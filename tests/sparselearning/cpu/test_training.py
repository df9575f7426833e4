"""Training with sparse kernels is training: the same outputs, gradients, topologies and accuracy as with dense ones."""

import copy
import importlib.util
import itertools

import pytest
import torch
from torch import nn
from torch.nn import functional as F

pytest.importorskip("numba")

from sparselearning import Masking, UsageError, sparse_training
from sparselearning.cpu.trained import DENSEST


def twins(model: nn.Module, method: str = "static", density: float = 0.3, **options: object) -> list[Masking]:
    """Two maskings of equal models, the first with sparse kernels."""
    models = model, copy.deepcopy(model)
    made = [Masking(m, torch.optim.SGD(m.parameters(), 0.05, momentum=0.9), method, density, **options) for m in models]
    sparse_training(made[0])
    return made


def assert_close(own: torch.Tensor, expected: torch.Tensor, tolerance: float = 1e-4) -> None:
    assert own.shape == expected.shape
    assert (own - expected).abs().max() <= tolerance * expected.abs().max().clamp(min=1e-2)


def assert_equal_gradients(sparse: Masking, dense: Masking, x: torch.Tensor) -> None:
    """Of inputs and connections, and of biases; there are none outside the masks."""
    inputs = [x.clone().requires_grad_() for _ in range(2)]
    outputs = [masking.model(image) for masking, image in zip((sparse, dense), inputs, strict=True)]
    assert_close(*(out.detach() for out in outputs))
    weights = torch.randn_like(outputs[1])
    for out in outputs:
        (out * weights).sum().backward()
    assert_close(inputs[0].grad, inputs[1].grad)
    expected = dict(dense.model.named_parameters())
    for name, parameter in sparse.model.named_parameters():
        gradient, mask = expected[name].grad, dense.masks.get(name)
        assert parameter.grad.stride() == parameter.stride()
        assert_close(parameter.grad, gradient if mask is None else gradient * mask)


@pytest.mark.parametrize("kernel", [1, 3, 5, (1, 3), (4, 2)])
@pytest.mark.parametrize("stride", [1, 2, (3, 1)])
def test_gradients_of_convolutions(kernel, stride):
    cases = itertools.product((0, 1, (0, 2)), ((7, 9), (8, 8)), ((1, 5, 6), (16, 20, 35), (33, 16, 1)))
    for padding, side, (batch, channels, out) in cases:
        layer = nn.Conv2d(channels, out, kernel, stride, padding, bias=batch > 1)
        if batch == 16:
            layer = layer.to(memory_format=torch.channels_last)
        assert_equal_gradients(*twins(layer), torch.randn(batch, channels, *side))


@pytest.mark.parametrize("shape", [(1, 10), (32, 10), (2, 3, 10), (10,)])
@pytest.mark.parametrize("bias", [False, True])
def test_gradients_of_linear_layers(shape, bias):
    assert_equal_gradients(*twins(nn.Linear(10, 7, bias=bias)), torch.randn(shape))


def test_networks_of_many_tiles_and_blocks_by_any_number_of_threads(threads):
    layers = nn.Conv2d(40, 70, 3, padding="same"), nn.Tanh(), nn.Conv2d(70, 33, 3, 2, bias=False)
    assert_equal_gradients(*twins(nn.Sequential(*layers)), torch.randn(70, 40, 33, 34))


def network() -> nn.Module:
    layers = nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2)
    more = nn.Conv2d(16, 32, 3, 2, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.Flatten()
    return nn.Sequential(*layers, *more, nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10))


def step(masking: Masking, images: torch.Tensor, labels: torch.Tensor) -> float:
    """The loss before it."""
    loss = F.cross_entropy(masking.model(images), labels)
    loss.backward()
    masking.optimizer.step()
    masking.optimizer.zero_grad()
    return loss.item()


@pytest.mark.parametrize("method", ["rigl", "set", "snfs", "granet", "gmp"])
def test_topologies_move_as_with_dense_kernels(method):
    options = {"prune_end": 4, "init_density": 0.4} if method in ("granet", "gmp") else {}
    pair = twins(network(), method, 0.2, update_frequency=3, **options)
    images, labels = torch.randn(40, 1, 8, 8), torch.randint(10, (40,))
    for _ in range(4):
        losses = [step(masking, images, labels) for masking in pair]
        assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert pair[0].updates == 1 and pair[0].grown == pair[1].grown
    for name, mask in pair[1].masks.items():
        assert torch.equal(pair[0].masks[name], mask)
        assert_close(pair[0].weights[name].detach(), pair[1].weights[name].detach(), 1e-3)


def test_explorations_read_dense_gradients():
    pair = twins(network(), "static", 0.2)
    images, labels = torch.randn(20, 1, 8, 8), torch.randint(10, (20,))
    for masking in pair:
        masking.explore(0.5)
        step(masking, images, labels)
    assert pair[0].grown > 0 and all(torch.equal(pair[0].masks[name], mask) for name, mask in pair[1].masks.items())


def test_gradients_are_dense_only_where_they_are_read():
    def seen(method: str, **options: object) -> list[bool]:
        masking = twins(network(), method, 0.2, update_frequency=2, **options)[0]
        images, labels, dense = torch.randn(5, 1, 8, 8), torch.randint(10, (5,)), []
        for _ in range(4):
            F.cross_entropy(masking.model(images), labels).backward()
            dense.append(bool(masking.weights["4.weight"].grad[~masking.masks["4.weight"]].any()))
            masking.optimizer.step()
            masking.optimizer.zero_grad()
        return dense

    assert seen("rigl") == [False, True, False, True]
    assert seen("set") == seen("static") == [False] * 4
    assert seen("snfs") == [True] * 4
    assert seen("gmp", prune_end=4, init_density=0.4) == [False] * 4
    assert seen("rigl", growth="random") == [False] * 4


def test_gradients_add_up_over_backward_passes():
    sparse, dense = twins(network())
    for images in torch.randn(3, 20, 1, 8, 8):
        for masking in (sparse, dense):
            masking.model(images).square().sum().backward()
    for name, mask in dense.masks.items():
        assert_close(sparse.weights[name].grad, dense.weights[name].grad * mask, 1e-4)


def test_layers_denser_than_half_are_dense():
    layer = nn.Conv2d(8, 8, 3)
    for density in (DENSEST - 0.1, DENSEST + 0.1):
        masking, _ = twins(copy.deepcopy(layer), density=density)
        masking.model(torch.randn(2, 8, 5, 5)).sum().backward()
        outside = masking.weights["weight"].grad[~masking.masks["weight"]]
        assert bool(outside.any()) == (density > DENSEST)


def test_evaluation_and_copies_are_dense():
    masking, _ = twins(nn.Conv2d(8, 8, 3))
    images, own = torch.randn(2, 8, 5, 5), masking.model
    with torch.no_grad():
        own.weight += 1  # outside of the mask too
        expected = F.conv2d(images, own.weight, own.bias)
        for layer in (copy.deepcopy(own), own.eval()):
            assert_close(layer(images), expected)
    assert own.train()(images).sub(expected).abs().max() > 1
    assert isinstance(own, nn.Conv2d) and copy.deepcopy(own).connected is None


def test_a_layer_whose_masking_was_removed_is_dense():
    masking, _ = twins(nn.Linear(8, 8))
    masking.remove()
    with torch.no_grad():
        masking.model.weight += 1
    x = torch.randn(2, 8)
    assert_close(masking.model(x).detach(), F.linear(x, masking.model.weight, masking.model.bias).detach())


def test_weights_may_change_their_memory_format():
    masking, twin = twins(network())
    masking.model.to(memory_format=torch.channels_last)
    assert_equal_gradients(masking, twin, torch.randn(3, 1, 8, 8))


def test_a_network_learns_digits_as_with_dense_kernels():
    from sklearn.datasets import load_digits

    data = load_digits()
    images, labels = torch.tensor(data.images, dtype=torch.float32)[:, None] / 16, torch.tensor(data.target)
    train, test = slice(0, 1400), slice(1400, None)
    accuracies = []
    for masking in twins(network(), "rigl", 0.2, update_frequency=20):
        order = torch.Generator().manual_seed(1)
        for _ in range(6):
            for batch in torch.randperm(1400, generator=order).split(100):
                step(masking, images[train][batch], labels[train][batch])
        with torch.no_grad():
            accuracies.append((masking.model.eval()(images[test]).argmax(1) == labels[test]).float().mean().item())
    assert min(accuracies) > 0.85 and abs(accuracies[0] - accuracies[1]) < 0.04


def test_what_sparse_kernels_cannot_do_is_said(monkeypatch):
    masking, _ = twins(nn.Linear(8, 8))
    with torch.autocast("cpu", torch.bfloat16), pytest.raises(UsageError, match="without autocast"):
        masking.model(torch.randn(2, 8))
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        masking.model(torch.randn(2, 9))
    with pytest.raises(RuntimeError, match="channels"):
        twins(nn.Conv2d(8, 8, 3))[0].model(torch.randn(2, 7, 5, 5))
    for model, message in ((nn.Linear(8, 8).bfloat16(), "bfloat16"), (nn.Conv1d(8, 8, 3), "nn.Conv2d")):
        with pytest.raises(UsageError, match=message):
            twins(model)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install 'sup-tickets\[cpu\]'"):
        twins(nn.Linear(8, 8))
