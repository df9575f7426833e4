"""A sparse layer makes what torch's dense one makes, whatever its shape, the images' shape and the batch."""

import itertools

import pytest
import torch
from torch import nn

pytest.importorskip("numba")

from sparselearning import UsageError
from sparselearning.cpu.layers import SparseConvolution, fits
from sparselearning.cpu.maps import Form, Map
from sparselearning.cpu.plans import HALVES, Window, plan
from sparselearning.cpu.steps import Affine, LinearOnPixels, Pool
from tests.sparselearning.cpu.compare import assert_equal, masked


def edges(made: Map) -> torch.Tensor:
    """All of a map but its pixels."""
    copy = torch.from_numpy(made.array).clone()
    pixels = Map(made.form).tensor()
    copy.as_strided(pixels.shape, pixels.stride(), pixels.storage_offset()).zero_()
    return copy


@pytest.mark.parametrize("batch", [1, 3, 16, 20])
@pytest.mark.parametrize("kernel", [1, 3, 5, (1, 3), (4, 2)])
def test_convolutions_of_any_stride_padding_and_size(kernel, batch):
    strides, paddings, sides = (1, 2, (3, 1)), (0, 1, (0, 2)), ((7, 9), (8, 8), (16, 16))
    for stride, padding, side, bias in itertools.product(strides, paddings, sides, (False, True)):
        layer = masked(nn.Conv2d(5, 6, kernel, stride, padding, bias=bias))
        sparse, x = SparseConvolution(layer, edge=1), torch.randn(batch, 5, *side)
        expected = layer(x).detach()
        made = sparse(x)
        assert_equal(made.tensor(), expected)
        assert edges(made).count_nonzero() == 0
        sparse.least, residual = 0.0, torch.randn_like(expected)
        added = sparse(Map.of(x, 2), Map.of(residual, 2))
        assert_equal(added.tensor(), (expected + residual).relu())
        assert edges(added).count_nonzero() == 0


def test_more_channels_and_positions_than_a_block_by_any_number_of_threads(threads):
    layer = masked(nn.Conv2d(40, 37, 3, padding=1))
    sparse = SparseConvolution(layer)
    for side, batch in ((1, 1), (4, 1), (12, 1), (17, 2), (5, 48)):
        x = torch.randn(batch, 40, side, side)
        assert_equal(sparse(x).tensor(), layer(x).detach())
        assert_equal(sparse(x.to(memory_format=torch.channels_last)).tensor(), layer(x).detach())


@pytest.mark.parametrize("batch", [1, 16])
def test_input_channels_in_parts_make_the_same_sums(batch, threads):
    layer = nn.Conv2d(256, 8, 3, padding=1)
    x, residual = torch.randn(batch, 256, 16, 16), torch.randn(batch, 8, 16, 16)
    sparse, expected = SparseConvolution(layer), layer(x).detach()
    assert_equal(sparse(x).tensor(), expected)
    assert_equal(sparse(x, Map.of(residual, 0)).tensor(), expected + residual)
    sparse.pool = HALVES
    sparse.plans.clear()
    assert_equal(sparse(x).tensor(), nn.MaxPool2d(2)(expected))
    (used,) = sparse.plans.values()
    assert len(used.starts) > 1


@pytest.mark.parametrize("batch", [1, 3, 16, 32])
@pytest.mark.parametrize("side", [(8, 8), (9, 7), (17, 32), (2, 5)])
def test_pools_of_convolutions(side, batch):
    layer, x = nn.Conv2d(3, 5, 3, padding=1), torch.randn(batch, 3, *side)
    x[0, 0, 0, 2] = float("nan")  # which goes through every connection
    for pool in (nn.MaxPool2d(2), nn.MaxPool2d(3, 2, 1), nn.MaxPool2d(2, 1, 1), nn.MaxPool2d((1, 2))):
        sparse = SparseConvolution(layer, edge=1)
        sparse.least, sparse.pool = 0.0, Pool(pool).pooling
        made, expected = sparse(x), pool(layer(x).relu()).detach()
        assert torch.equal(made.tensor().isnan(), expected.isnan())
        assert_equal(made.tensor().nan_to_num(), expected.nan_to_num())
        assert edges(made).count_nonzero() == 0


@pytest.mark.parametrize("batch", [1, 16, 32])
@pytest.mark.parametrize("padding", [0, 2])
def test_maps_of_images_of_any_strides(padding, batch):
    for size in ((3, 4, 16), (2, 3, 21), (5, 4, 3), (40, 1, 1)):
        x = torch.randn(batch, *size)
        for images in (x, x.to(memory_format=torch.channels_last), x.flip(0).transpose(2, 3), x[..., ::2]):
            made = Map.of(images, padding)
            assert torch.equal(made.tensor(), images)
            assert edges(made).count_nonzero() == 0


@pytest.mark.parametrize("padding", ["same", "valid"])
def test_padding_in_words(padding):
    layer, x = masked(nn.Conv2d(4, 6, 5, padding=padding)), torch.randn(2, 4, 9, 8)
    assert_equal(SparseConvolution(layer)(x).tensor(), layer(x).detach())


@pytest.mark.parametrize("shape", [(10,), (1, 10), (32, 10), (2, 3, 10)])
@pytest.mark.parametrize("bias", [False, True])
def test_linear_layers(shape, bias):
    layer, x = masked(nn.Linear(10, 7, bias=bias)), torch.randn(shape)
    assert_equal(LinearOnPixels(layer)(x), layer(x).detach())


def test_nan_and_infinity_stay():
    layer = nn.Conv2d(1, 1, 1, bias=False)
    nn.init.ones_(layer.weight)
    x = torch.tensor([float("nan"), float("inf"), -float("inf"), -1]).reshape(1, 1, 2, 2)
    sparse = SparseConvolution(layer)
    sparse.least = 0.0
    assert torch.equal(sparse(x).tensor().nan_to_num(nan=7), x.relu().nan_to_num(nan=7))


def test_a_layer_without_connections_makes_its_bias():
    layer = nn.Conv2d(3, 4, 3)
    nn.init.zeros_(layer.weight)
    assert_equal(SparseConvolution(layer)(torch.randn(2, 3, 5, 5)).tensor(), layer(torch.zeros(2, 3, 5, 5)).detach())


def test_images_that_do_not_fit_are_refused():
    sparse = SparseConvolution(nn.Conv2d(3, 4, 3))
    for shape in ((1, 2, 5, 5), (1, 3, 2, 5)):
        with pytest.raises(UsageError, match="do not fit"):
            sparse(torch.randn(shape))
    with pytest.raises(UsageError, match="too many at once"):
        plan(Form(2**10, 64, 2**10, 2**10, 1), Window((1, 64, 1, 1), (1, 1), (0, 0)), sparse.taps, sparse.values, 1)


def test_many_sizes_of_images_keep_few_plans():
    layer = masked(nn.Conv2d(3, 4, 3))
    sparse = SparseConvolution(layer)
    for side in range(3, 30):
        x = torch.randn(1, 3, side, side)
        assert_equal(sparse(x).tensor(), layer(x).detach())
    assert len(sparse.plans) <= 8


def test_layers_that_have_no_sparse_form():
    assert fits(nn.Conv2d(4, 4, 3)) and fits(nn.Linear(2, 2)) and fits(nn.Conv2d(4, 4, 3, padding="same"))
    for options in ({"groups": 2}, {"dilation": 2}, {"padding": 1, "padding_mode": "reflect"}):
        assert not fits(nn.Conv2d(4, 4, 3, **options))
    assert not fits(nn.Conv2d(4, 4, 4, padding="same")) and not fits(nn.ConvTranspose2d(4, 4, 3))


@pytest.mark.parametrize("batch", [1, 3, 16])
@pytest.mark.parametrize("kind", [nn.MaxPool2d, nn.AvgPool2d])
def test_pools(kind, batch):
    for window, stride, padding, side in itertools.product((2, 3, (2, 3)), (1, 2, 3), (0, 1), ((8, 8), (9, 7))):
        layer, x = kind(window, stride, padding), torch.randn(batch, 5, *side)
        made = Pool(layer, edge=1)(Map.of(x, 2))
        assert_equal(made.tensor(), layer(x))
        assert edges(made).count_nonzero() == 0
    assert Pool.fits(kind(2)) and not Pool.fits(kind(2, ceil_mode=True))


def test_the_largest_of_a_window_with_nan_is_nan():
    x = torch.arange(16.0).reshape(1, 1, 4, 4)
    x[0, 0, 0, 0] = x[0, 0, 3, 3] = float("nan")
    made, expected = Pool(nn.MaxPool2d(2))(Map.of(x, 0)).tensor(), nn.MaxPool2d(2)(x)
    assert torch.equal(made.isnan(), expected.isnan()) and torch.equal(made.nan_to_num(), expected.nan_to_num())


@pytest.mark.parametrize("affine", [False, True])
def test_batch_norm_and_sums(affine):
    norm, (x, y) = nn.BatchNorm2d(5, affine=affine).eval(), torch.randn(2, 3, 5, 4, 6)
    norm.running_mean.uniform_(), norm.running_var.uniform_(0.5, 2)
    step = Affine(norm, edge=1)
    step.least = 0.0
    assert_equal(step(Map.of(x, 0)).tensor(), norm(x).relu().detach())
    assert_equal(Affine(edge=2)(Map.of(x, 0), Map.of(y, 1)).tensor(), x + y)
