"""Efficient ensembles: each member is a network of its own, and one member alone is the plain network."""

import copy

import pytest
import torch
from torch import Tensor, nn

from models import build, classifiers
from models.ensembles import Ensemble
from models.member_layers import Branches, Dropped, RankOne, fast_weights
from models.members import Members
from sparselearning.errors import UsageError
from sparselearning.flops import forward_flops, layer_costs
from sparselearning.layers import maskable_weights

KINDS = ("mc-dropout 3 0.2", "batchensemble 3", "mimo 3 0.0", "treenet 3 0.75")
ALONE = ("mc-dropout 1 0.0", "batchensemble 1", "mimo 1 0.0", "treenet 1 0.75")


def made(text: str, name: str = "resnet20", width: float = 0.25) -> Members:
    torch.manual_seed(0)
    model = build(name, 10, width, ensemble=Ensemble.read(text))
    assert isinstance(model, Members)
    return model.eval()


def images(count: int = 6) -> Tensor:
    batch = torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    return batch.contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("name", ["vgg16", "resnet20", "resnet50", "wrn28-10"])
@pytest.mark.parametrize("text", ALONE)
def test_one_member_is_the_plain_network_to_the_bit(name: str, text: str) -> None:
    """With dropout 0 and fast weights of one; from the same seed the weights are the same."""
    model = made(text, name, 0.0625)
    torch.manual_seed(0)
    plain = build(name, 10, 0.0625)
    for fast in fast_weights(model):
        nn.init.ones_(fast)
    own = [tensor for key, tensor in model.state_dict().items() if "fast" not in key]
    assert all(torch.equal(*pair) for pair in zip(own, plain.state_dict().values(), strict=True))
    for training in (False, True):
        model.train(training), plain.train(training)
        assert torch.equal(model(images()[None])[0], plain(images()))
    assert torch.equal(model.eval().logits(images())[0], plain.eval()(images()))


@pytest.mark.parametrize("text", KINDS)
def test_it_predicts_the_mean_of_its_members_which_differ(text: str) -> None:
    model = made(text)
    with torch.no_grad():
        members, mean = model.logits(images()), model(images())
    assert members.shape == (3, 6, 10) and mean.shape == (6, 10)
    torch.testing.assert_close(mean.exp(), members.softmax(-1).mean(0))
    assert all((members[i] - members[j]).abs().max() > 1e-4 for i, j in ((0, 1), (0, 2), (1, 2)))


@pytest.mark.parametrize("text", KINDS)
def test_what_it_makes_of_an_image_depends_on_no_other(text: str) -> None:
    model = made(text)
    with torch.no_grad():
        together = model.logits(images())
        apart = torch.cat([model.logits(image[None]) for image in images()], dim=1)
    torch.testing.assert_close(together, apart, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("text", KINDS)
def test_every_parameter_learns(text: str) -> None:
    model = made(text).train()
    model(images()[model.deal(6, 2)]).square().sum().backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []


def test_a_member_of_a_batchensemble_is_a_network_of_its_own_weights() -> None:
    model = made("batchensemble 3", "vgg16", 0.0625)
    exchanged = [module for module in model.modules() if isinstance(module, RankOne)]
    members = model.logits(images())
    for m in range(3):
        torch.manual_seed(0)
        plain = build("vgg16", 10, 0.0625).eval()
        layers = [module for module in plain.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
        for layer, own in zip(layers, exchanged, strict=True):
            product = torch.outer(own.fast_out[m], own.fast_in[m])
            layer.weight.data *= product.view(*product.shape, *[1] * (layer.weight.ndim - 2))
            assert layer.bias is not None
            layer.bias.data *= own.fast_out[m]
        torch.testing.assert_close(plain(images()), members[m], rtol=1e-3, atol=1e-4)


def test_a_member_of_a_treenet_is_the_trunk_and_its_branch() -> None:
    model = made("treenet 3 0.75")
    branches = {name: module for name, module in model.network.named_modules() if isinstance(module, Branches)}
    assert [*branches] == ["stages.2.1", "stages.2.2", "classifier"]  # 8 of 11 blocks are shared
    members = model.logits(images())
    for m in range(3):
        alone = copy.deepcopy(model.network)
        for name, module in branches.items():
            parent, _, own = name.rpartition(".")
            setattr(alone.get_submodule(parent), own, module.branches[m])
        torch.testing.assert_close(alone(images()), members[m], rtol=1e-4, atol=1e-5)


def test_mimo_predicts_for_each_of_its_images() -> None:
    model, views = made("mimo 3 0.0"), images(12).view(3, 4, 3, 32, 32)
    with torch.no_grad():
        logits, own = model(views), model.network(torch.cat([*views], dim=1))
    assert logits.shape == (3, 4, 10) and own.shape == (4, 30)
    for m in range(3):
        torch.testing.assert_close(logits[m], own[:, 10 * m : 10 * m + 10])


def test_a_member_drops_the_same_activations_of_all_images_and_training_of_each_its_own() -> None:
    model = made("mc-dropout 4 0.3")
    layers = {name: module for name, module in model.network.named_modules() if isinstance(module, Dropped)}
    assert [*layers] == [f"stages.{stage}.{block}.conv1" for stage in range(3) for block in range(3)]
    layer, x = layers["stages.0.0.conv1"], torch.rand(8, 4, 16, 16)
    out, plain = (y.view(4, 2, 4, 16, 16) for y in (layer(x), layer.layer(x)))
    kept = out != 0
    torch.testing.assert_close(out[kept], plain[kept] / 0.7)
    assert torch.equal(kept[:, 0], kept[:, 1]) and torch.equal(layer(x), out.view(8, 4, 16, 16))
    assert kept[:, 0].float().mean().item() == pytest.approx(0.7, abs=0.03) and not torch.equal(kept[0], kept[1])
    layer.train()
    assert not torch.equal(layer(x)[0] == 0, layer(x)[1] == 0)


@pytest.mark.parametrize(
    ("text", "repetitions", "views", "rows"),
    [("mimo 3 0.0", 4, 3, 28), ("batchensemble 4", 4, 4, 7), ("batchensemble 7", 1, 7, 1), ("treenet 3 0.75", 1, 1, 7),
     ("mc-dropout 3 0.1", 2, 1, 14)],
)  # fmt: skip
def test_every_image_comes_as_often_as_asked(text: str, repetitions: int, views: int, rows: int) -> None:
    dealt = made(text).deal(7, repetitions)
    assert dealt.shape == (views, rows)
    each = repetitions * views if text.startswith("mimo") else repetitions
    assert dealt.flatten().bincount().tolist() == [each] * 7


def test_members_of_a_batchensemble_divide_a_batch_that_is_not_repeated() -> None:
    assert made("batchensemble 4").deal(6, 1).tolist() == [[0, 1], [2, 3], [4, 5], [0, 1]]  # they do not come out even


@pytest.mark.parametrize("rho", [0.0, 0.6, 1.0])
def test_mimo_sees_the_same_image_in_a_part_of_the_rows(rho: float) -> None:
    dealt = made(f"mimo 3 {rho}").deal(500, 2)
    assert (dealt == dealt[0]).all(0).float().mean().item() == pytest.approx(rho, abs=0.01)
    assert all(view.bincount().tolist() == [2] * 500 for view in dealt)


def test_their_sizes_are_published() -> None:
    """In millions, with batch-norm statistics: google/uncertainty-baselines, tables of CIFAR-10 and of ImageNet."""
    with torch.device("meta"):
        models = [build("wrn28-10", 10, ensemble=Ensemble.read(text)) for text in ("mimo 3 0.0", "batchensemble 4")]
        large = [Ensemble.read(text) for text in ("mimo 2 0.6", "batchensemble 4")]
        models += [classifiers.build("resnet50", 1000, 224, ensemble=ensemble) for ensemble in large]
    sizes = [sum(tensor.numel() for tensor in model.state_dict().values()) / 1e6 for model in models]
    assert [round(size, 1) for size in sizes] == [36.5, 36.6, 27.7, 25.8]


def test_a_prediction_of_a_wide_resnet_costs_what_the_papers_say() -> None:
    """FreeTickets, Table 1: 1.00, 1.00 and 1.52 without additional inputs and outputs, and 4 passes."""
    with torch.device("meta"):
        plain = forward_flops(layer_costs(build("wrn28-10", 10), (3, 32, 32)))
        texts = ("mc-dropout 1 0.1", "mimo 3 0.0", "treenet 3 0.75", "batchensemble 4")
        models = [build("wrn28-10", 10, ensemble=Ensemble.read(text)) for text in texts]
        shares = [forward_flops(layer_costs(model, (3, 32, 32))) / plain for model in models]
    assert shares == pytest.approx([1, 1.0002, 1.54, 4], abs=1e-4)


def test_fast_weights_and_norms_are_not_masked() -> None:
    names = [*maskable_weights(made("batchensemble 4"))]
    assert len(names) == 22 and all(name.endswith(".layer.weight") for name in names)
    fast = torch.cat([weights.flatten() for weights in fast_weights(made("batchensemble 4", width=2))])
    assert fast.mean().item() == pytest.approx(1, abs=0.02) and fast.std().item() == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize(
    ("name", "side", "text"), [*(("resnet18", 64, text) for text in KINDS), ("vit_b_16", 32, "batchensemble 3")]
)
def test_classifiers_of_torchvision_have_members_too(name: str, side: int, text: str) -> None:
    with torch.device("meta"):
        model = classifiers.build(name, 5, side, ensemble=Ensemble.read(text))
        assert isinstance(model, Members)
        assert model.eval().logits(torch.zeros(2, 3, side, side)).shape == (3, 2, 5)


def test_its_text_says_all_and_nothing_else_is_read() -> None:
    for text in (*KINDS, *ALONE, "mimo 2 0.6"):
        assert str(Ensemble.read(text)) == text
    for wrong in ("", "mimo", "mimo 3", "mimo 0 0.0", "nimo 3 0.0", "batchensemble 4 0.5", "treenet x 0.75"):
        with pytest.raises(UsageError, match="is no efficient ensemble"):
            Ensemble.read(wrong)


def test_mimo_needs_a_first_convolution_and_a_last_linear_layer() -> None:
    with pytest.raises(UsageError, match="begins with a convolution and ends with a linear layer"):
        classifiers.build("squeezenet1_1", 10, 64, ensemble=Ensemble.read("mimo 2 0.0"))
