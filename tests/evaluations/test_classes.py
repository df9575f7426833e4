"""What is evaluated class by class: disagreement on each, and images of some of the classes alone."""

import itertools

import numpy as np
import pytest
from PIL import Image

from sparselearning.errors import UsageError
from tests.evaluations.subjects import (
    CLASSES,
    by_hand,
    network,
    options,
    pixels_of,
    probabilities,
    small_images,
    subject,
)
from utils.data.other_sets import OtherSets
from utils.evaluations import adversarial, per_class
from utils.evaluations.subject import Subject


def test_disagreement_of_each_class_by_a_loop():
    whole = subject(1, 2, 3)
    *own, found = per_class.run(whole, options("--per-class"))
    predicted = [outputs.argmax(1) for outputs in probabilities(whole.models, pixels_of(small_images()))[:3]]
    for label, name in enumerate(CLASSES):
        images = [i for i in range(37) if i % 10 == label]
        differ = [p[i] != q[i] for p, q in itertools.combinations(predicted, 2) for i in images]
        assert found[name] == pytest.approx(sum(differ) / len(differ))
    assert own == [{}, {}, {}] and 0 < sum(found.values()) < 10
    assert per_class.printed(found)[1] == ["class0", f"{found['class0']:.3f}"]


def test_a_class_without_images_is_left_out_and_one_without_a_name_is_a_number():
    whole = subject(1, 2, n=4)
    assert [*per_class.run(whole, options("--per-class"))[-1]] == CLASSES[:4]
    nameless = Subject(whole.accelerator, whole.models, OtherSets(small_images(1), [], 0))
    assert [*per_class.run(nameless, options("--per-class"))[-1]] == ["0"]


def test_networks_that_are_equal_never_disagree():
    whole = subject(1)
    twice = Subject(whole.accelerator, [*whole.models, network(1)], whole.sets)
    assert {*per_class.run(twice, options("--per-class"))[-1].values()} == {0.0}


def write_some(folder, names: list[str], each: int = 4) -> tuple[np.ndarray, list[int]]:
    """Images of some classes, and their places among these; in the order in which a folder is read."""
    pixels = np.random.default_rng(0).integers(0, 256, (each * len(names), 32, 32, 3), dtype=np.uint8)
    labels = [i % len(names) for i in range(len(pixels))]
    for i, label in enumerate(labels):
        (folder / names[label]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels[i]).save(folder / names[label] / f"{i:03}.png")
    return pixels, labels


def test_among_the_classes_of_the_folder_alone_is_chosen(tmp_path):
    """As the benchmark does: the logits of these classes, softmax, and then the mean over the networks."""
    names, whole = ["class2", "class5", "class7"], subject(1, 2)
    pixels, labels = write_some(tmp_path / "A", names)
    found = adversarial.run(whole, options("--adversarial", tmp_path / "A"))
    some = [outputs[:, [2, 5, 7]] for outputs in probabilities(whole.models, pixels)[:2]]
    some = [outputs / outputs.sum(1, keepdims=True) for outputs in some]
    for block, outputs in zip(found, [*some, np.mean(some, 0)], strict=True):
        numbers = by_hand(outputs, labels)
        assert {name: block[name] for name in numbers} == pytest.approx(numbers, abs=1e-6) and block["classes"] == 3


def test_one_class_leaves_nothing_to_choose(tmp_path):
    write_some(tmp_path / "A", ["class4"])
    (found,) = adversarial.run(subject(1), options("--adversarial", tmp_path / "A"))
    assert [found[name] for name in ("accuracy", "nll", "ece", "brier")] == [100, 0, 0, 0]


def test_a_class_that_the_network_has_not_is_said(tmp_path):
    for names in (["class4", "n01498041"], ["n01498041", *CLASSES[1:]]):  # as many as the network has
        write_some(tmp_path / names[0], names, each=1)
        with pytest.raises(UsageError, match="class n01498041, which is none of those of the network"):
            adversarial.run(subject(1), options("--adversarial", tmp_path / names[0]))
