"""The CIFAR networks are the papers' networks, weight for weight."""

import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models import MODELS, build, classifiers
from models.cifar.wrn28_10 import PreActBlock
from sparselearning.errors import UsageError
from sparselearning.flops import forward_flops, layer_costs

ROOT = Path(__file__).parents[2]
# classes, parameters, maskable weights, weight tensors, multiply-adds of one 32×32 image
COUNTS = {
    "vgg16": [(10, 14_991_946, 14_977_728, 15, 313_463_808), (100, 15_038_116, 15_023_808, 15, 313_509_888)],
    "resnet50": [(10, 23_520_832, 23_467_712, 54, 1_297_829_888), (100, 23_705_152, 23_652_032, 54, 1_298_014_208)],
    "wrn28-10": [(10, 36_479_194, 36_461_232, 29, 5_243_328_768), (100, 36_536_884, 36_518_832, 29, 5_243_386_368)],
    "resnet20": [(10, 272_474, 270_896, 22, 40_813_184), (100, 278_324, 276_656, 22, 40_818_944)],
}
ROWS = [(name, *row) for name, rows in COUNTS.items() for row in rows]


def on_meta(name: str, classes: int = 10) -> nn.Module:
    """The network without its numbers: enough for shapes, counts and who computes what from what."""
    with torch.device("meta"):
        return build(name, classes)


@pytest.mark.parametrize(("name", "classes", "parameters", "maskable", "tensors", "multiply_adds"), ROWS)
def test_counts_are_those_of_the_papers(
    name: str, classes: int, parameters: int, maskable: int, tensors: int, multiply_adds: int
) -> None:
    model = on_meta(name, classes)
    weights = [p for p in model.parameters() if p.dim() in (2, 4)]
    assert sum(p.numel() for p in model.parameters()) == parameters
    assert sum(p.numel() for p in weights) == maskable
    assert len(weights) == tensors
    assert forward_flops(layer_costs(model, (3, 32, 32))) == 2 * multiply_adds


def test_unknown_name_is_refused_in_one_line_that_lists_the_choices() -> None:
    with pytest.raises(UsageError, match=r"^unknown model 'vgg19': choose one of resnet20, resnet50, vgg16, wrn28-10$"):
        build("vgg19", 10)


def test_a_module_in_the_folder_is_offered_by_its_name_and_not_imported(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "models", tmp_path / "models")
    (tmp_path / "models/cifar/lenet_5.py").write_text("raise AssertionError('imported')")
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    command = [sys.executable, "-c", "from models import MODELS; print(*MODELS)"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("lenet-5 resnet20 resnet50 vgg16 wrn28-10\n", "")


@pytest.mark.parametrize("name", MODELS)
def test_output_is_raw_logits_in_either_memory_format(name: str) -> None:
    torch.manual_seed(0)
    model = build(name, 10).eval()
    convolutions = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
    for convolution in convolutions:  # the default weights of a VGG-16 would shrink any image to nothing
        nn.init.kaiming_normal_(convolution.weight)
    images = torch.randn(2, 3, 32, 32)
    layouts: list[bool] = []
    with torch.no_grad():
        logits = model(images)
        convolutions[-1].register_forward_hook(
            lambda _, __, output: layouts.append(output.is_contiguous(memory_format=torch.channels_last))
        )
        in_channels_last = model.to(memory_format=torch.channels_last)(images.to(memory_format=torch.channels_last))
    assert logits.shape == (2, 10)
    assert (logits.logsumexp(1).abs() > 1e-3).all(), "log-probabilities would have a logsumexp of 0"
    scale = logits.std().item()
    assert (logits[0] - logits[1]).abs().max() > 0.01 * scale  # the image matters
    torch.testing.assert_close(in_channels_last, logits, rtol=1e-3, atol=1e-3 * scale)
    assert layouts == [True]


@pytest.mark.parametrize("name", MODELS)
def test_no_layer_overwrites_what_another_has_made(name: str) -> None:
    model = on_meta(name)
    images = torch.zeros(2, 3, 32, 32, device="meta")
    outputs: list[tuple[Tensor, int]] = [(images, images._version)]
    for module in model.modules():
        module.register_forward_hook(lambda _, __, output: outputs.append((output, output._version)))
    model(images)
    assert all(output._version == version for output, version in outputs)


@pytest.mark.parametrize("name", MODELS)
def test_every_parameter_takes_part(name: str) -> None:
    model = on_meta(name)
    model(torch.zeros(2, 3, 32, 32, device="meta")).sum().backward()
    assert [parameter for parameter, p in model.named_parameters() if p.grad is None] == []


def test_wide_resnet_starts_from_fan_out_normal_weights_and_zero_bias() -> None:
    torch.manual_seed(0)
    model = build("wrn28-10", 10)
    for module in model.modules():
        if isinstance(module, nn.Conv2d) and module.weight.numel() > 10_000:
            std = math.sqrt(2 / (module.kernel_size[0] * module.kernel_size[1] * module.out_channels))
            assert module.weight.std().item() == pytest.approx(std, rel=0.03)
    assert not model.get_parameter("classifier.bias").any()


def test_wide_projection_reads_the_activated_input() -> None:
    block = PreActBlock(4, 8, stride=2).eval()
    x = torch.randn(2, 4, 8, 8)
    assert block.shortcut is not None
    seen: list[Tensor] = []
    block.shortcut.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    block(x)
    torch.testing.assert_close(seen[0], F.relu(x / math.sqrt(1 + block.bn1.eps)))


@pytest.mark.parametrize("name", ["resnet20", "resnet50"])
def test_resnet_projects_only_where_shapes_change(name: str) -> None:
    model = on_meta(name)
    projections = [n for n, p in model.named_parameters() if "shortcut" in n and p.dim() == 4]
    first = [] if name == "resnet20" else ["stages.0.0.shortcut.0.weight"]  # only bottlenecks widen the first stage
    later = [f"stages.{stage}.0.shortcut.0.weight" for stage in range(1, 3 if name == "resnet20" else 4)]
    assert projections == first + later


# ---- narrow networks -------------------------------------------------------------------------------------------------


def shapes(model: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize("width", [0.25, 0.465, 2.0])
@pytest.mark.parametrize("name", MODELS)
def test_a_narrow_network_is_the_same_network_of_fewer_channels(name: str, width: float) -> None:
    with torch.device("meta"):
        full, narrow = build(name, 10), build(name, 10, width)
    own, other = shapes(full), shapes(narrow)
    assert list(own) == list(other)
    stem = {"vgg16": 64, "resnet50": 64}.get(name, 16)
    for key, shape in own.items():
        assert len(other[key]) == len(shape)
        for channels, found in zip(shape[:2], other[key][:2], strict=False):
            fixed = channels in (3, 10)  # colors, classes
            # in whole multiples of the stem, except in VGG-16, where every layer is rounded by itself
            expected = round(width * channels) if name == "vgg16" else round(width * stem) * channels // stem
            assert found == (channels if fixed else expected), key
        assert other[key][2:] == shape[2:]
    assert narrow(torch.zeros(2, 3, 32, 32, device="meta")).shape == (2, 10)


@pytest.mark.parametrize(("width", "stem", "wide", "flops"), [(0.465, 30, 238, 0.222), (0.34, 22, 174, 0.121)])
def test_small_dense_is_the_baseline_of_rigl(width: float, stem: int, wide: int, flops: float) -> None:
    """ResNet-50 on ImageNet with the FLOPs of 80 % and 90 % uniform sparsity."""
    with torch.device("meta"):
        full, narrow = classifiers.build("resnet50", 1000, 224), classifiers.build("resnet50", 1000, 224, width)
    assert list(full.state_dict()) == list(narrow.state_dict())
    own = shapes(narrow)
    assert own["conv1.weight"] == (stem, 3, 7, 7) and own["layer4.2.conv2.weight"] == (wide, wide, 3, 3)
    assert own["fc.weight"] == (1000, 4 * wide) and own["layer1.0.downsample.0.weight"] == (4 * stem, stem, 1, 1)
    for counting in ("plain", "rigl"):
        costs = [forward_flops(layer_costs(model), counting=counting) for model in (narrow, full)]
        assert costs[0] / costs[1] == pytest.approx(flops, abs=0.006)


@pytest.mark.parametrize("name", ["resnet18", "resnet34"])
def test_narrow_classifiers_of_basic_blocks_have_the_names_of_the_full_ones(name: str) -> None:
    with torch.device("meta"):
        full, narrow = classifiers.build(name, 10, 64), classifiers.build(name, 10, 64, 0.5)
    assert list(full.state_dict()) == list(narrow.state_dict())
    assert narrow(torch.zeros(2, 3, 64, 64, device="meta")).shape == (2, 10)
    assert all(p.shape[0] in (q.shape[0] // 2, 10) for p, q in zip(narrow.parameters(), full.parameters(), strict=True))


def test_widths_without_channels_or_without_a_model_are_refused_in_one_line() -> None:
    with pytest.raises(UsageError, match=r"^width 0\.01 leaves layers without a channel: use 0\.0625 or more$"):
        build("resnet20", 10, 0.01)
    with pytest.raises(UsageError, match=r"^--width 0\.5 is for resnet18, resnet34, resnet50, and at least 0\.01$"):
        classifiers.build("vit_b_16", 10, 224, 0.5)
    with pytest.raises(UsageError, match=r"at least 0\.01$"):
        classifiers.build("resnet50", 10, 224, 0.001)
    for name in MODELS:
        assert build(name, 10, 0.0625).eval()(torch.zeros(1, 3, 32, 32)).shape == (1, 10)


def test_vgg_averages_what_is_left_of_large_images_and_refuses_small_ones():
    model = build("vgg16", 10, 0.1, 64).eval()
    with torch.no_grad():
        features = model.features(torch.ones(1, 3, 64, 64))
        assert torch.allclose(model(torch.ones(1, 3, 64, 64)), model.classifier(features.mean((2, 3))), atol=1e-6)
    with pytest.raises(UsageError, match="vgg16 cannot take images of --image-size 28: use 32 or more"):
        build("vgg16", 10, 1.0, 28)
