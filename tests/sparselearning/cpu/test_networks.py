"""A sparse network answers as the dense one does, in any form that its code has, and without numba too."""

import importlib.util
import time
from functools import partial

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

from models import build
from sparselearning import Masking, UsageError, sparse_inference
from sparselearning.cpu import inference
from tests.sparselearning.cpu.compare import assert_equal, masked

pytest.importorskip("numba")


@pytest.fixture
def all_sparse(monkeypatch):
    monkeypatch.setattr(inference, "is_faster", lambda one, other: True)


def trained(model: nn.Module) -> nn.Module:
    """With batch norms as after training."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.1)
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 2)
    return model


def kinds(model: nn.Module) -> list[str]:
    return [type(module).__name__ for module in model.modules()]


@pytest.mark.parametrize(
    "name", ["vgg16", "resnet20", "resnet50", "wrn28-10", "torchvision-resnet18", "torchvision-densenet121"]
)
def test_whole_networks(name, all_sparse):
    if name.startswith("torchvision"):
        model = torchvision.models.get_model(name.split("-")[1], num_classes=10)
    else:
        model = build(name, 10, width=0.25)
    Masking(model, torch.optim.SGD(trained(model).parameters(), 0.1), "static", 0.3)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    x = torch.randn(3, 3, 32, 32)
    sparse = sparse_inference(model, x)
    assert model.training and not sparse.training
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert "SparseConvolution" in kinds(sparse) and not {"Conv2d", "Linear"} & {*kinds(sparse)}
    model.eval()
    for batch in (x, torch.randn(1, 3, 32, 32), torch.randn(20, 3, 32, 32)):  # 20: a tile of 16 images, and 4
        assert_equal(sparse(batch), model(batch).detach())


def test_residual_networks_add_in_place_and_normalize_nothing(all_sparse):
    model = trained(build("resnet20", 10))
    sparse = sparse_inference(model, torch.randn(1, 3, 32, 32))
    assert not {"Affine", "BatchNorm2d", "ReLU"} & {*kinds(sparse)}


def test_convolutions_take_the_largest_of_their_outputs_themselves(all_sparse):
    layers = nn.MaxPool2d(2), nn.ReLU(), nn.AvgPool2d(2), nn.ReLU(), nn.MaxPool2d(2), nn.MaxPool2d(2)
    model = nn.Sequential(*(part for pool in layers for part in (masked(nn.Conv2d(4, 4, 3, padding=1)), pool)))
    sparse, x = sparse_inference(model, torch.randn(1, 4, 64, 64)), torch.randn(17, 4, 64, 64)
    assert kinds(sparse).count("Pool") == 1 and "MaxPool2d" not in kinds(sparse)
    assert_equal(sparse(x), model(x).detach())


class Flattened(nn.Module):
    """Linear layers behind a convolution, and a shortcut around one."""

    def __init__(self, pixels, flatten):
        super().__init__()
        self.convolution, self.flatten, self.relu = masked(nn.Conv2d(3, 20, 4, padding=1)), flatten, nn.ReLU()
        self.first, self.second = (masked(nn.Linear(20 * pixels, features)) for features in (20 * pixels, 30))
        self.norm = trained(nn.Sequential(nn.BatchNorm1d(20 * pixels)))

    def forward(self, x):
        x = self.flatten(self.convolution(x))
        return self.second(x + self.norm(self.relu(self.first(x)))).log_softmax(1)


@pytest.mark.parametrize(
    "flatten",
    [
        (9, nn.Flatten()),
        (9, lambda x: torch.flatten(x, start_dim=1)),
        (1, nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())),
        (1, lambda x: F.adaptive_avg_pool2d(x, (1, 1)).flatten(1, -1)),
    ],
)
def test_linear_layers_behind_convolutions(flatten, all_sparse):
    model = Flattened(*flatten).eval()
    sparse, x = sparse_inference(model, torch.randn(1, 3, 4, 4)), torch.randn(17, 3, 4, 4)
    assert not {"LinearOnPixels", "BatchNorm1d", "AdaptiveAvgPool2d"} & {*kinds(sparse)}
    assert_equal(sparse(x), model(x).detach())


class Branching(nn.Module):
    """It cannot be traced, calls a layer twice, and shows a batch norm's input to another layer."""

    def __init__(self):
        super().__init__()
        self.first, self.twice = masked(nn.Conv2d(3, 8, 3, padding=1)), masked(nn.Conv2d(8, 8, 1))
        self.norm, self.grouped = nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3, groups=2)
        nn.init.uniform_(self.norm.running_mean)

    def body(self, x):
        x = self.first(x)
        return self.grouped(F.relu(self.twice(self.norm(x) + x)) + self.twice(x))

    def forward(self, x):
        return self.body(x) if x.sum() < 1e9 else x


class Traceable(Branching):
    def forward(self, x):
        return self.body(x)


@pytest.mark.parametrize("kind", [Branching, Traceable])
def test_layers_that_share_inputs_or_are_called_twice(kind, all_sparse):
    model, x = kind().eval(), torch.randn(2, 3, 7, 7)
    sparse = sparse_inference(model, x)
    assert kinds(sparse).count("SparseConvolution") == (2 if kind is Branching else 3)
    assert_equal(sparse(x), model(x).detach())


class Reread(nn.Module):
    """Maps are read again after a sum, a ReLU in place or a view of them, so that none may be written over."""

    def __init__(self):
        super().__init__()
        self.a, self.b = (masked(nn.Conv2d(4, 4, 3, padding=1)) for _ in "ab")
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        x = self.a(x)
        summed = x + self.b(x)
        flat = x.flatten(2)
        y = self.b(summed)
        y = y + summed
        z = self.b(y)
        z += y
        rectified = self.relu(z)
        return rectified + z + torch.add(self.b(rectified), flat.reshape(x.shape)) + self.a(y + y) + x


def test_maps_that_are_read_again(all_sparse):
    model, x = Reread().eval(), torch.randn(3, 4, 8, 8)
    sparse = sparse_inference(model, x)
    with torch.no_grad():
        assert_equal(sparse(x), model(x))


def test_only_layers_that_are_faster_become_sparse(monkeypatch):
    # of the dense layer, of the empty one, of the network with the empty one sparse, of that with both
    answers = iter([False, True, True, False])
    monkeypatch.setattr(inference, "is_faster", lambda one, other: next(answers))
    dense, empty = nn.Conv2d(64, 64, 3), masked(nn.Conv2d(64, 64, 3), density=0.001)
    sparse = sparse_inference(nn.Sequential(dense, empty), torch.randn(8, 64, 32, 32))
    assert kinds(sparse).count("Conv2d") == 1 and kinds(sparse).count("SparseConvolution") == 1
    assert next(answers, None) is None


def test_the_faster_of_two_is_told_by_the_clock():
    short, long = partial(time.sleep, 0.001), partial(time.sleep, 0.02)
    assert inference.is_faster(short, long) and not inference.is_faster(long, short)


def test_a_network_that_is_not_faster_sparse_stays_dense(monkeypatch):
    monkeypatch.setattr(inference, "is_faster", lambda one, other: False)
    model, x = nn.Sequential(nn.Conv2d(64, 64, 3), nn.BatchNorm2d(64)).eval(), torch.randn(8, 64, 16, 16)
    copied = sparse_inference(model, x)
    assert "SparseConvolution" not in kinds(copied)
    assert_equal(copied(x), model(x).detach())


def test_without_numba_the_copy_is_dense_and_says_so(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    model, x = nn.Sequential(masked(nn.Conv2d(3, 4, 3)), nn.BatchNorm2d(4)).eval(), torch.randn(2, 3, 5, 5)
    with pytest.warns(UserWarning, match="numba is not installed"):
        copied = sparse_inference(model, x)
    assert "SparseConvolution" not in kinds(copied)
    assert_equal(copied(x).detach(), model(x).detach())


class Noisy(nn.Sequential):
    def forward(self, x):
        return F.dropout(super().forward(x), 0.5, training=True)


class Pairs(nn.Linear):
    def forward(self, x):
        return x, x


def test_refusals(all_sparse):
    x = torch.ones(1, 3)
    for model, given, message in (
        (nn.Linear(3, 2).double(), x.double(), "not float64"),
        (nn.Linear(3, 2), [1.0], "not a list"),
        (3, x, "an int, not a torch.nn.Module"),
        (Noisy(nn.Linear(3, 200)), x, "other outputs than the model"),
        (Pairs(3, 2), x, "one tensor in, one out"),
    ):
        with pytest.raises(UsageError, match=message):
            sparse_inference(model, given)
