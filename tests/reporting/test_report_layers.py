"""The table of layers: Table 16 of Sup-tickets from summaries."""

import pytest
import torch
import torchvision

from sparselearning.flops import layer_costs
from tests.commands import run_command
from tests.reporting.summaries import PLAIN, write
from utils.report import main
from utils.reporting.layers import stage

SIZES = {"conv1.weight": 100, "layer1.0.conv1.weight": 200, "layer1.1.conv1.weight": 300, "fc.weight": 400}


@pytest.fixture
def table(tmp_path, capsys):
    def read() -> list[list[str]]:
        run_command(main, tmp_path, "--layers")
        lines = capsys.readouterr().out.split("\n\n")[2].splitlines()
        rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
        return [rows[0], *rows[2:]]

    return read


def write_layers(folder, sizes, nnz, **summary):
    flops = {name: 10.0 * size for name, size in sizes.items()}
    layers = {"weights_per_layer": sizes, "flops_per_layer": flops, "nnz_per_layer": nnz}
    write(folder, {**PLAIN, **layers, **summary})


def test_layers_their_stages_and_the_whole_as_the_mean_of_the_seeds(tmp_path, table):
    for seed, kept in enumerate((10, 30)):
        write_layers(tmp_path / f"rigl{seed}", SIZES, dict.fromkeys(SIZES, kept), seed=seed)
    write_layers(tmp_path / "granet", SIZES, dict(zip(SIZES, (50, 0, 50, 100), strict=True)), method="granet")
    assert table() == [
        ["layer", "weights", "dense FLOPs", "RigL, 95 %, 250", "GraNet, 95 %, 250"],
        ["all layers", "1,000", "10,000", "92.00 %", "80.00 %"],
        ["all but fc.weight", "600", "6,000", "90.00 %", "83.33 %"],
        ["conv1.weight", "100", "1,000", "80.00 %", "50.00 %"],
        ["layer1, all", "500", "5,000", "92.00 %", "90.00 %"],
        ["layer1.0.conv1.weight", "200", "2,000", "90.00 %", "100.00 %"],
        ["layer1.1.conv1.weight", "300", "3,000", "93.33 %", "83.33 %"],
        ["fc.weight", "400", "4,000", "95.00 %", "75.00 %"],
    ]


def test_resnet50_has_the_sizes_and_flops_of_table_16(tmp_path, table):
    """Overall the paper counts two operations for each of the 2048 · 7² numbers averaged before the last layer."""
    with torch.device("meta"):
        model = torchvision.models.resnet50()
    costs = layer_costs(model)
    sizes = {name: model.get_parameter(name).numel() for name in costs}
    flops = {name: cost.flops() for name, cost in costs.items()}
    layers = {"weights_per_layer": sizes, "flops_per_layer": flops, "nnz_per_layer": sizes}
    write(tmp_path / "a", {**PLAIN, **layers})
    found = {name: tuple(int(number.replace(",", "")) for number in numbers) for name, *numbers, _ in table()[1:]}
    assert found["all layers"] == (25_502_912, 8_178_569_216 - 2 * 2048 * 49)
    assert found["all but fc.weight"] == (23_454_912, 8_174_272_512)
    assert found["layer1.0.conv2.weight"] == (36_864, 231_211_008)
    assert found["layer2.0.conv1.weight"] == (32_768, 205_520_896)
    assert found["layer3.5.conv3.weight"] == (262_144, 102_760_448)
    assert found["layer4.0.downsample.0.weight"] == (2_097_152, 205_520_896)
    assert found["fc.weight"] == (2_048_000, 4_096_000)
    assert len(found) == 2 + 54 + 4


@pytest.mark.parametrize(
    ("name", "of"),
    [
        ("conv1.weight", "conv1"), ("layer1.0.conv1.weight", "layer1"), ("layer1.0.downsample.0.weight", "layer1"),
        ("stages.0.1.conv2.weight", "stages.0"), ("stages.2.0.shortcut.0.weight", "stages.2"),
        ("groups.1.0.shortcut.weight", "groups.1"), ("features.17.weight", "features"), ("fc.weight", "fc"),
    ],
)  # fmt: skip
def test_the_stage_of_a_layer(name, of):
    assert stage(name) == of


def test_layers_that_cannot_be_compared_are_refused_in_a_line(tmp_path, capsys):
    write_layers(tmp_path / "a", SIZES, SIZES)
    write_layers(tmp_path / "b", {**SIZES, "fc.weight": 1000}, SIZES, data="cifar100")
    for folder, says in ((tmp_path, "runs of one network"), (write(tmp_path / "old", PLAIN), "weights_per_layer")):
        with pytest.raises(SystemExit) as stop:
            run_command(main, folder, "--layers")
        assert stop.value.code == 2 and says in capsys.readouterr().err
