"""Augmentation: the same for an image whatever the number of devices that share its batch."""

from __future__ import annotations

import pytest
import torch

from mnist_cnn.augment import RandomShift

STEP = (1, 2, 3)  # seed, epoch, batch


def dots(batch: int) -> torch.Tensor:
    """Images of one bright pixel, in the middle."""
    images = torch.zeros(batch, 28, 28, dtype=torch.uint8)
    images[:, 14, 14] = 255
    return images


def shifts(images: torch.Tensor) -> list[tuple[int, int]]:
    return [(int(row) - 14, int(column) - 14) for _, row, column in images.nonzero()]


def test_every_shift_is_equally_likely_and_keeps_the_picture() -> None:
    moved = RandomShift(2)(dots(25 * 400), *STEP, first_row=0)
    assert moved.dtype == torch.uint8
    assert moved.shape == (10_000, 28, 28)
    seen = shifts(moved)
    counts = {shift: seen.count(shift) for shift in set(seen)}
    assert set(counts) == {(row, column) for row in range(-2, 3) for column in range(-2, 3)}
    # 400 of each; five standard deviations are 98.
    assert all(300 < count < 500 for count in counts.values())


def test_what_moves_in_is_empty_and_nothing_wraps_round() -> None:
    images = torch.full((64, 28, 28), 255, dtype=torch.uint8)
    for image, (row, column) in zip(
        RandomShift(3)(images, *STEP, first_row=0),
        shifts(RandomShift(3)(dots(64), *STEP, first_row=0)),
        strict=True,
    ):
        assert image.eq(255).sum() == (28 - abs(row)) * (28 - abs(column))
        assert image.eq(0).sum() == 28 * 28 - image.eq(255).sum()


def test_the_shares_of_ranks_are_the_rows_of_one_batch() -> None:
    images, shift = dots(30), RandomShift(2)
    whole = shift(images, *STEP, first_row=0)
    shares = [shift(images[a:b], *STEP, first_row=a) for a, b in ((0, 7), (7, 20), (20, 30))]
    assert torch.equal(whole, torch.cat(shares))


def test_it_is_a_function_of_the_step() -> None:
    images, shift = dots(100), RandomShift(2)
    first = shift(images, *STEP, first_row=0)
    assert torch.equal(first, shift(images, *STEP, first_row=0))
    for other in ((2, 2, 3), (1, 3, 3), (1, 2, 4)):
        assert not torch.equal(first, shift(images, *other, first_row=0))


def test_no_shift_is_the_image() -> None:
    images = torch.randint(0, 256, (5, 28, 28), dtype=torch.uint8)
    assert torch.equal(images, RandomShift(0)(images, *STEP, first_row=0))


@pytest.mark.parametrize("pixels", [-1, 15])
def test_it_says_which_shifts_there_are(pixels: int) -> None:
    with pytest.raises(ValueError, match="from 0 to 14"):
        RandomShift(pixels)
