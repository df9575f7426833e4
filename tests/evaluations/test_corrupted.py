"""Metrics on corrupted images: read in their published forms, and against scikit-learn and loops."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sparselearning.errors import UsageError
from tests.evaluations.subjects import CLASSES, by_hand, options, probabilities, subject
from utils.evaluations import corrupted

N = 12
NAMES = ("fog", "snow", "spatter")


def write_arrays(folder: Path, n: int = N) -> Path:
    """As CIFAR-10-C: a file per corruption, the severities one after the other, and the labels likewise."""
    folder.mkdir(parents=True)
    for seed, name in enumerate(NAMES):
        pixels = np.random.default_rng(seed).integers(0, 60 * (seed + 2), (5 * n, 32, 32, 3), dtype=np.uint8)
        np.save(folder / f"{name}.npy", pixels)
    np.save(folder / "labels.npy", np.tile(np.arange(n) % 10, 5).astype(np.uint8))
    return folder


def write_folders(folder: Path, arrays: Path) -> Path:
    """The same images as ImageNet-C has them: noise/fog/1/class0/00000.png."""
    labels = np.load(arrays / "labels.npy")
    for name in NAMES:
        for i, pixels in enumerate(np.load(arrays / f"{name}.npy")):
            place = folder / "noise" / name / str(1 + i // N) / CLASSES[labels[i]]
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(place / f"{i % N:05}.png")
    return folder


def expected(folder: Path, models: list, n: int = N) -> list[dict[str, float]]:
    """Of each predictor: means over corruptions and severities, and the ECE of all images together."""
    labels = list(np.arange(n) % 10)
    sets = [np.load(folder / f"{name}.npy")[N * s : N * s + n] for name in NAMES for s in range(5)]
    outputs = [probabilities(models, pixels) for pixels in sets]
    found = []
    for own in zip(*outputs, strict=True):
        rows = [by_hand(part, labels) for part in own]
        means = {name: np.mean([row[name] for row in rows]) for name in rows[0]}
        found.append(means | {"ece_pooled": by_hand(np.concatenate(own), len(own) * labels)["ece"]})
    return found


def check(found: list, folder: Path, models: list, n: int = N) -> None:
    for block, numbers in zip(found, expected(folder, models, n), strict=True):
        assert {name: block[name] for name in numbers} == pytest.approx(numbers, abs=1e-6)
        assert block["ece_pooled"] <= block["ece"] + 1e-12


def test_published_arrays_against_scikit_learn_and_loops(tmp_path):
    folder, whole = write_arrays(tmp_path / "C"), subject(1, 2)
    found = corrupted.run(whole, options("--corruptions", folder))
    check(found, folder, whole.models)
    table = found[0]["per_corruption"]
    assert [*table] == [*NAMES]
    for name in NAMES:
        severities = table[name]["severities"]
        first = by_hand(probabilities(whole.models[:1], np.load(folder / f"{name}.npy")[:N])[0], np.arange(N) % 10)
        assert severities[0]["nll"] == pytest.approx(first["nll"], abs=1e-6) and len(severities) == 5
        assert table[name]["accuracy"] == pytest.approx(np.mean([row["accuracy"] for row in severities]))


def test_published_folders_hold_the_same_images(tmp_path):
    folder, whole = write_arrays(tmp_path / "C"), subject(1)
    check(corrupted.run(whole, options("--corruptions", write_folders(tmp_path / "F", folder))), folder, whole.models)


@pytest.mark.parametrize("limit", [1, 7, 100])
def test_a_limit_takes_the_first_images_of_every_severity(tmp_path, limit):
    folder, whole = write_arrays(tmp_path / "C"), subject(3, limit=limit)
    found = corrupted.run(whole, options("--corruptions", folder))
    check(found, folder, whole.models, min(limit, N))


def test_labels_may_be_those_of_one_severity(tmp_path):
    folder, whole = write_arrays(tmp_path / "C"), subject(1)
    np.save(folder / "labels.npy", (np.arange(N) % 10).astype(np.int64))
    check(corrupted.run(whole, options("--corruptions", folder)), folder, whole.models)


def run(folder: Path) -> None:
    corrupted.run(subject(1), options("--corruptions", folder))


def test_what_is_no_folder_of_corrupted_images_is_said(tmp_path):
    with pytest.raises(UsageError, match=r"no folder .*CIFAR-10-C"):
        run(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="holds no corrupted images"):
        run(tmp_path / "empty")
    for damage, said in {
        "labels.npy": lambda path: path.unlink(),
        "fog.npy": lambda path: np.save(path, np.zeros((5 * N, 32, 32, 3), dtype=np.float32)),
        "snow.npy": lambda path: np.save(path, np.zeros((5 * N + 1, 32, 32, 3), dtype=np.uint8)),
        "spatter.npy": lambda path: path.write_bytes(path.read_bytes()[:200]),
    }.items():
        folder = write_arrays(tmp_path / f"without-{damage}")
        said(folder / damage)
        with pytest.raises(UsageError, match=r"cannot read .*\.npy: .*; copy it"):
            run(folder)
    wrong = write_arrays(tmp_path / "wrong")
    np.save(wrong / "labels.npy", np.full(5 * N, 10))
    with pytest.raises(UsageError, match=r"label 10, not 0\.\.9"):
        run(wrong)


def test_a_class_that_the_network_has_not_is_said(tmp_path):
    folder = write_folders(tmp_path / "F", write_arrays(tmp_path / "C"))
    for path in folder.glob("noise/*/*/class3"):
        path.rename(path.with_name("n01498041"))
    for path in folder.glob("noise/*/*/class4/*"):
        path.unlink()
    for path in folder.glob("noise/*/*/class4"):
        path.rmdir()
    with pytest.raises(UsageError, match="class n01498041, which is none of those of the network"):
        run(folder)
