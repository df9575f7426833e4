"""The steps of an epoch: as many on any number of processes, and none on so few images that they spoil a ticket."""

from pathlib import Path
from unittest import mock

import pytest
from torch import Tensor, nn

from sparselearning.errors import UsageError
from tests.tiny import SPARSE, SUP_TICKETS, main
from utils.training.batches import Batches, count_steps


@pytest.mark.parametrize(
    ("images", "batch_size", "steps"),
    [
        (50_000, 128, 391),  # CIFAR: a last batch of 80
        (45_000, 128, 352),  # of 72
        (1_281_167, 128, 10_009),  # ImageNet: 15 are left out, the released code's drop_last
        (1_281_167, 256, 5_005),  # a last batch of 143
        (40, 16, 3),  # of half a batch
        (39, 16, 2),
        (32, 16, 2),
        (9, 16, 1),  # less than a batch is one
    ],
)
@pytest.mark.parametrize("parts", [1, 2, 4])
def test_a_rest_of_less_than_half_a_batch_is_left_out(images: int, batch_size: int, steps: int, parts: int) -> None:
    assert count_steps(images, batch_size, parts) == steps


@pytest.mark.parametrize("size", [4, 5, 16, 128])
@pytest.mark.parametrize("parts", [1, 2, 3, 8])
def test_an_epoch_has_as_many_steps_in_any_number_of_parts(size: int, parts: int) -> None:
    whole = size * parts
    for images in range(whole, 3 * whole):
        steps = count_steps(images, whole, parts)
        assert steps == count_steps(images, whole, 1)
        assert min(images - (steps - 1) * whole, whole) >= max(whole / 2, 2 * parts)


def test_a_part_of_a_rest_has_the_two_images_that_batch_norm_needs() -> None:
    assert [count_steps(images, 16, 8) for images in (24, 31, 32)] == [1, 1, 2]
    with pytest.raises(UsageError, match="15 training images do not fill a batch in 8 parts"):
        count_steps(15, 16, 8)


@pytest.mark.parametrize("images", [1_281_167, 9_469, 333, 257, 258])
@pytest.mark.parametrize("world", [1, 2, 3, 4, 8])
def test_every_process_takes_its_parts_of_the_same_batches(images: int, world: int) -> None:
    batch, accumulation = 16, 2
    whole, parts = batch * world * accumulation, world * accumulation
    steps = count_steps(images, whole, parts)
    for position in {0, steps // 2, steps - 1}:
        taken: list[tuple[int, int]] = []
        for rank in range(world):
            own = Batches(images, whole, parts, steps).parts_of(position, rank, world)
            assert len(own) == accumulation and all(stop - start >= 2 for start, stop in own)
            taken += own
        edges = [edge for part in sorted(taken) for edge in part]
        assert edges[1:-1:2] == edges[2::2]  # without gap or overlap
        assert (edges[0], edges[-1]) == (position * whole, min((position + 1) * whole, images))


@pytest.mark.parametrize(
    ("images", "cut", "sizes"),
    [
        (37, (16, 1), [16, 16]),  # 5 are left out
        (37, (4, 4), [4] * 8),
        (44, (16, 1), [16, 16, 12]),
        (44, (4, 4), [4] * 8 + [3] * 4),
    ],
)
def test_what_batch_norm_sees_before_a_ticket(
    images: int, cut: tuple[int, int], sizes: list[int], tmp_path: Path
) -> None:
    seen: list[int] = []
    forward = nn.BatchNorm2d.forward

    def noted(module: nn.BatchNorm2d, x: Tensor) -> Tensor:
        seen.extend([len(x)] * module.training)
        return forward(module, x)

    options = ("--batch-size", str(cut[0]), "--gradient-accumulation-steps", str(cut[1]))
    with mock.patch.object(nn.BatchNorm2d, "forward", noted):
        status, _, _ = main(tmp_path, *SPARSE, *SUP_TICKETS, "--model", "tiny", "--limit-train", str(images), *options)
    assert status == 0
    assert seen == 8 * sizes
