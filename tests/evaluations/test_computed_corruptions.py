"""Corruptions computed from the test images: those of the package, and the same whoever computes them."""

import sys
from unittest import mock

import numpy as np
import pytest
import torch

from sparselearning.errors import UsageError
from tests.evaluations.subjects import options, pixels_of, small_images, subject
from utils.data.corruptions import SEVERITIES, Corruption, computed
from utils.data.other_sets import OtherSets
from utils.evaluations import corrupted

package = pytest.importorskip("imagecorruptions")
IMAGE = pixels_of(small_images(3))[2]


def test_every_corruption_of_the_package_is_there_at_every_severity():
    sets = computed(OtherSets(small_images(2), [], 0))
    assert len(sets) == 19 and [*sets] == package.get_corruption_names("all")
    for name, severities in sets.items():
        images = list(severities)
        assert [image.samples.change for image in images] == [Corruption(name, severity) for severity in SEVERITIES]


@pytest.mark.parametrize("name", ["jpeg_compression", "contrast", "pixelate", "gaussian_blur", "zoom_blur"])
def test_what_draws_no_random_numbers_is_the_packages_to_the_bit(name):
    images = list(computed(OtherSets(small_images(3), [], 0))[name])
    for severity, image in zip(SEVERITIES, images, strict=True):
        batch, labels = image.clean_batch(2, 3)
        expected = np.array(package.corrupt(IMAGE, severity, name))
        assert (batch[0].permute(1, 2, 0) * 0.25 + 0.45).mul(255).round().byte().equal(torch.from_numpy(expected))
        assert labels.tolist() == [2] and not np.array_equal(expected, IMAGE)


@pytest.mark.parametrize("name", package.get_corruption_names("all"))
def test_an_image_is_corrupted_alike_whatever_was_drawn_before_and_draws_nothing_itself(name):
    np.random.seed(1)
    state = np.random.get_state()[1].copy()
    first = Corruption(name, 3)(IMAGE, 5)
    assert np.array_equal(np.random.get_state()[1], state) and first.dtype == np.uint8 and first.shape == IMAGE.shape
    np.random.seed(2)
    assert np.array_equal(Corruption(name, 3)(IMAGE, 5), first)


def test_images_and_severities_have_noise_of_their_own():
    noise = [Corruption("gaussian_noise", s)(IMAGE, row).astype(int) - IMAGE for s, row in ((1, 0), (1, 1), (2, 0))]
    assert all(abs(np.corrcoef(a.flat, b.flat)[0, 1]) < 0.1 for a, b in ((noise[0], noise[1]), (noise[0], noise[2])))


def test_they_are_evaluated_with_workers_and_without_to_the_same_numbers():
    with mock.patch.object(package, "get_corruption_names", {"all": ["fog"]}.get):
        found = [corrupted.run(subject(1, n=9, workers=n), options("--corruptions"))[0] for n in (0, 2)]
    assert found[0] == found[1] and found[0]["source"] == "computed" and [*found[0]["per_corruption"]] == ["fog"]


def test_without_the_package_its_name_is_said():
    with mock.patch.dict(sys.modules, imagecorruptions=None), pytest.raises(UsageError) as refusal:
        corrupted.run(subject(1), options("--corruptions"))
    assert "pip install imagecorruptions-imaug" in str(refusal.value) and "\n" not in str(refusal.value)


def test_images_that_are_too_small_are_refused():
    small = small_images(2)
    with pytest.raises(UsageError, match="they need 32"):
        computed(OtherSets(type(small)(small.images[:, :30], small.labels, small.mean, small.std, 10, False, 0), [], 0))
