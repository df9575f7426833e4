"""Tickets of main_imagenet.py: the crops of their own images, of corrupted ones and of those of some classes."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from models.classifiers import build
from sparselearning.errors import UsageError
from tests.commands import refused_by, run_command
from tests.evaluations.subjects import by_hand, softmax
from utils.data.augmentation import center
from utils.data.large_images import MEAN, STD
from utils.evaluate import main
from utils.run_folder.headers import TicketHeader
from utils.run_folder.tickets import save_ticket
from utils.training.networks import builder_for

SIDE, WNIDS = 32, ["n01440764", "n01443537", "n01484850", "n01498041"]


def write(folder: Path, wnids: list[str], size: int, seed: int, each: int = 3) -> list[tuple[np.ndarray, str]]:
    """Images in a folder per class; returns them in the order in which it is read, in turns."""
    drawn = np.random.default_rng(seed).integers(0, 256, (each, len(wnids), size, size, 3), dtype=np.uint8)
    for i, images in enumerate(drawn):
        for wnid, pixels in zip(wnids, images, strict=True):
            (folder / wnid).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(folder / wnid / f"{i}.png")
    return [(pixels, wnid) for images in drawn for wnid, pixels in zip(wnids, images, strict=True)]


@pytest.fixture(scope="module")
def model() -> torch.nn.Module:
    torch.manual_seed(0)
    model = build("resnet18", len(WNIDS), SIDE)
    model.fc.weight.data.mul_(20)
    return model.eval()


@pytest.fixture(scope="module")
def ticket(model, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("ticket") / "ticket.safetensors"
    save_ticket(path, model.state_dict(), {"data": "four", "model": "resnet18"})
    return path


@torch.no_grad()
def expected(model: torch.nn.Module, images: list[Tensor], labels: list[int], among: list[int]) -> dict[str, float]:
    x = torch.stack(images).permute(0, 3, 1, 2) / 255
    logits = model((x - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1))
    return by_hand(softmax(logits.double().numpy()[:, among]), labels)


def test_all_that_large_images_are_evaluated_by(ticket, model, tmp_path):
    """Test images are resized and cut; those of ImageNet-C come cut; of ImageNet-A's classes alone is chosen."""
    write(tmp_path / "data/train", WNIDS, 48, 0, each=1)
    own = write(tmp_path / "data/val", WNIDS, 48, 1)
    corrupted = [write(tmp_path / f"C/blur/fog/{s}", WNIDS, SIDE, 10 + s) for s in range(1, 6)]
    some = write(tmp_path / "A", WNIDS[1:3], 40, 20)
    place = ("--data-dir", tmp_path / "data", "--image-size", SIDE, "--workers", 0, "--json", tmp_path / "x.json")
    others = ("--fgsm", "--ood", "gaussian", "--corruptions", tmp_path / "C", "--adversarial", tmp_path / "A")
    run_command(main, "--tickets", ticket, *place, *others)
    found, everything = json.loads((tmp_path / "x.json").read_text()), [*range(4)]

    def cut(pairs: list[tuple[np.ndarray, str]]) -> list[Tensor]:
        return [center(torch.from_numpy(pixels), SIDE) for pixels, _ in pairs]

    tests = expected(model, cut(own), [WNIDS.index(wnid) for _, wnid in own], everything)
    assert {name: found[name] for name in tests} == pytest.approx(tests, abs=1e-5)
    sets = [
        expected(model, [torch.from_numpy(p) for p, _ in pairs], [WNIDS.index(w) for _, w in pairs], everything)
        for pairs in corrupted
    ]
    means = {name: np.mean([numbers[name] for numbers in sets]) for name in sets[0]}
    assert {name: found["corrupted"][name] for name in means} == pytest.approx(means, abs=1e-5)
    among = expected(model, cut(some), [WNIDS.index(wnid) - 1 for _, wnid in some], [1, 2])
    assert {name: found["adversarial"][name] for name in among} == pytest.approx(among, abs=1e-5)
    assert 0 <= found["fgsm"]["mean"] <= found["accuracy"] + 1e-9 and 0 <= found["ood"]["gaussian"] <= 1


def test_a_network_of_both_kinds_is_told_by_its_tensors(tmp_path):
    from models import build as build_small

    for large, network in ((True, build("resnet50", 3, SIDE)), (False, build_small("resnet50", 3))):
        path, said = tmp_path / f"{large}.safetensors", TicketHeader(model="resnet50")
        found = builder_for(path, network.state_dict(), said, None, None)
        assert (found.large, found.num_classes) == (large, 3)
        for other in ("resnet20", "vgg16"):
            with pytest.raises(UsageError, match=f"{path} belongs to another model: no {other} has its tensors"):
                builder_for(path, network.state_dict(), said, other, None)


def test_without_data_a_large_ticket_asks_for_a_folder(ticket, tmp_path):
    assert "no folder" in refused_by(main, "--tickets", ticket, "--data-dir", tmp_path / "none")
