"""The area under the ROC curve against a count of pairs, and the images that test images are told from."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sparselearning.errors import UsageError
from tests.evaluations.subjects import options, pixels_of, probabilities, small_images, subject
from utils.data.formats.digits import read_digits
from utils.data.other_sets import OtherSets
from utils.evaluations import out_of_distribution
from utils.evaluations.out_of_distribution import area


def pairs_in_order(inside: list[float], outside: list[float]) -> float:
    """Of all pairs of a test image and another: the part in which the first is more confident; ties count half."""
    pairs = list(itertools.product(inside, outside))
    return sum((a > b) + (a == b) / 2 for a, b in pairs) / len(pairs)


scores = st.lists(st.sampled_from([0.1, 0.5, 0.9, 1.0]) | st.floats(0, 1), min_size=1, max_size=12)


@settings(max_examples=150, deadline=None)
@given(scores, scores)
def test_the_area_is_the_part_of_pairs_in_order(inside, outside):
    assert area(np.array(inside), np.array(outside)) == pytest.approx(pairs_in_order(inside, outside))


def test_the_area_by_hand():
    assert area(np.array([0.9]), np.array([0.1])) == 1 and area(np.array([0.1]), np.array([0.9])) == 0
    assert area(np.array([1.0, 1.0]), np.array([1.0])) == 0.5
    assert area(np.array([1.0, 0.5]), np.array([0.5, 0.2])) == 3.5 / 4


def expected(whole, others: np.ndarray) -> list[float]:
    inside, outside = (
        [outputs.max(1).tolist() for outputs in probabilities(whole.models, pixels)]
        for pixels in (pixels_of(small_images()), others)
    )
    return [pairs_in_order(*pair) for pair in zip(inside, outside, strict=True)]


def test_every_network_and_the_ensemble_tell_the_digits_from_test_images():
    whole = subject(1, 2, limit=20)
    found = out_of_distribution.run(whole, options("--ood", "digits"))
    assert [block["digits"] for block in found] == pytest.approx(
        expected(whole, read_digits()[1].images[:20]), abs=1e-6
    )
    assert len({block["digits"] for block in found}) == 3


def test_noise_has_the_published_mean_and_deviation_and_is_clipped():
    images = OtherSets(small_images(), [], 0).noise()
    assert len(images) == 37
    values = (images.clean_batch(0, 37)[0] * 0.25 + 0.45).double()
    assert values.min() == pytest.approx(0, abs=1e-6) and values.max() == pytest.approx(1, abs=1e-6)
    drawn = np.random.default_rng(0).normal(0.5, 0.25, 10**6).clip(0, 1)
    assert values.mean().item() == pytest.approx(drawn.mean(), abs=0.005)
    assert values.std().item() == pytest.approx(drawn.std(), abs=0.005)
    first, again = images.clean_batch(0, 2)[0], OtherSets(small_images(), [], 0).noise().clean_batch(1, 2)[0]
    assert first[1].equal(again[0]) and not first[0].equal(first[1])


def test_noise_is_evaluated_beside_other_sets():
    whole = subject(1)
    (block,) = out_of_distribution.run(whole, options("--ood", "gaussian", "digits"))
    pixels = np.stack([whole.sets.noise().samples.rows.pixels(i).numpy() for i in range(37)])
    assert [*block] == ["gaussian", "digits"] and block["gaussian"] == pytest.approx(expected(whole, pixels)[0])


def write_classes(folder, count: int, side: int) -> np.ndarray:
    pixels = np.random.default_rng(3).integers(0, 256, (count, side, side, 3), dtype=np.uint8)
    for i, image in enumerate(pixels):
        (folder / f"kind{i % 2}").mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"kind{i % 2}" / f"{i:03}.png")
    return pixels


def test_images_in_folders_of_any_classes_and_of_a_split(tmp_path):
    pixels, whole = write_classes(tmp_path / "plain", 10, 32), subject(1)
    for split in ("train", "test"):
        write_classes(tmp_path / "split" / split, 10, 32)
    words = [f"{name}={tmp_path / name}" for name in ("plain", "split")]
    (block,) = out_of_distribution.run(whole, options("--ood", *words))
    assert block == pytest.approx(dict.fromkeys(("plain", "split"), expected(whole, pixels)[0]), abs=1e-6)


def test_larger_images_are_resized_and_an_unknown_name_is_said(tmp_path):
    write_classes(tmp_path / "large", 4, 48)
    (block,) = out_of_distribution.run(subject(1), options("--ood", f"large={tmp_path / 'large'}"))
    assert 0 <= block["large"] <= 1
    with pytest.raises(UsageError, match="unknown --data lsun"):
        out_of_distribution.run(subject(1), options("--ood", "lsun"))
    with pytest.raises(UsageError, match="no folder"):
        out_of_distribution.run(subject(1), options("--ood", f"lsun={tmp_path / 'none'}"))
