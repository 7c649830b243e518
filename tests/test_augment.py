"""Augmentation: the same for an image whatever the number of devices that share its batch."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from mnist_cnn.data import MNISTDataModule
from mnist_cnn.training.augment import Augmentation, Compose, RandomAffine, RandomShift
from mnist_cnn.training.pens import RandomPen
from mnist_cnn.training.randomness import step_keys


def key(*step: int) -> torch.Tensor:
    return step_keys(*step, layers=0, device=torch.device("cpu"))[0]


KEY = key(1, 2, 3)  # seed, epoch, batch


def dots(batch: int) -> torch.Tensor:
    """Images of one bright pixel, in the middle."""
    images = torch.zeros(batch, 28, 28, dtype=torch.uint8)
    images[:, 14, 14] = 255
    return images


def shifts(images: torch.Tensor) -> list[tuple[int, int]]:
    return [(int(row) - 14, int(column) - 14) for _, row, column in images.nonzero()]


def test_every_shift_is_equally_likely_and_keeps_the_picture() -> None:
    moved = RandomShift(2)(dots(25 * 400), KEY, first_row=0)
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
        RandomShift(3)(images, KEY, first_row=0),
        shifts(RandomShift(3)(dots(64), KEY, first_row=0)),
        strict=True,
    ):
        assert image.eq(255).sum() == (28 - abs(row)) * (28 - abs(column))
        assert image.eq(0).sum() == 28 * 28 - image.eq(255).sum()


CHANGES = [
    RandomShift(2),
    RandomAffine(),
    RandomAffine(bend=1.0),
    RandomAffine(thicken=0.5),
    RandomPen(),
    Compose([RandomShift(1), RandomPen(1.0)]),
]


@pytest.mark.parametrize("change", CHANGES)
def test_the_shares_of_ranks_are_the_rows_of_one_batch(
    change: Augmentation, mnist: MNISTDataModule
) -> None:
    images = mnist.train_set.images[:30]
    whole = change(images, KEY, first_row=0)
    shares = [change(images[a:b], KEY, first_row=a) for a, b in ((0, 7), (7, 20), (20, 30))]
    assert torch.equal(whole, torch.cat(shares))


@pytest.mark.parametrize("change", CHANGES)
def test_it_is_a_function_of_the_step(change: Augmentation, mnist: MNISTDataModule) -> None:
    images = mnist.train_set.images[:100]
    first = change(images, KEY, first_row=0)
    assert torch.equal(first, change(images, KEY, first_row=0))
    for other in ((2, 2, 3), (1, 3, 3), (1, 2, 4)):
        assert not torch.equal(first, change(images, key(*other), first_row=0))


def test_no_shift_is_the_image() -> None:
    images = torch.randint(0, 256, (5, 28, 28), dtype=torch.uint8)
    assert torch.equal(images, RandomShift(0)(images, KEY, first_row=0))


@pytest.mark.parametrize("pixels", [-1, 15])
def test_it_says_which_shifts_there_are(pixels: int) -> None:
    with pytest.raises(ValueError, match="from 0 to 14"):
        RandomShift(pixels)


NOTHING: dict[str, Any] = {"degrees": 0, "pixels": 0, "scale": 0, "shear": 0}


def only(**limits: float) -> RandomAffine:
    return RandomAffine(**NOTHING | limits)


def test_an_affine_change_by_nothing_is_the_image(mnist: MNISTDataModule) -> None:
    images = mnist.train_set.images[:200]
    assert torch.equal(images, only()(images, KEY, first_row=0))


#: A cross about the middle: its four ends, (right, up) in pixels.
ENDS = torch.tensor([(9.0, 0.0), (0.0, 9.0), (-9.0, 0.0), (0.0, -9.0)])


def crosses(change: RandomAffine, batch: int = 1000) -> torch.Tensor:
    """Where the ends of a cross come to lie in each image: (batch, 4, 2), right and up."""
    places = []
    for right, up in ENDS:
        rows = 13.5 - torch.arange(28.0)[:, None]
        columns = torch.arange(28.0)[None, :] - 13.5
        spot = (255 * torch.exp(-((columns - right) ** 2 + (rows - up) ** 2) / 2)).to(torch.uint8)
        moved = change(spot.expand(batch, 28, 28), KEY, first_row=0).double()
        total = moved.sum(dim=(1, 2))
        x = (moved * columns).sum(dim=(1, 2)) / total
        y = (moved * rows).sum(dim=(1, 2)) / total
        places.append(torch.stack([x, y], dim=1))
    return torch.stack(places, dim=1)


def uniform(values: torch.Tensor, limit: float, tolerance: float) -> bool:
    """Whether values lie evenly between plus and minus a limit."""
    quantiles = torch.linspace(0.05, 0.95, 10, dtype=values.dtype)
    expected = (2 * quantiles - 1) * limit
    inside = bool(values.abs().max() < limit + tolerance)
    return inside and bool((values.quantile(quantiles) - expected).abs().max() < 0.1 * limit)


def test_it_turns_to_both_sides_alike() -> None:
    right, up, left, down = crosses(only(degrees=20)).unbind(dim=1)
    degrees = (right - left).T
    angles = torch.atan2(degrees[1], degrees[0]) * 180 / math.pi
    assert uniform(angles, 20, 0.5)
    torch.testing.assert_close(
        (right - left).norm(dim=1), (up - down).norm(dim=1), rtol=0.03, atol=0
    )
    torch.testing.assert_close(right + left, torch.zeros_like(right), rtol=0, atol=0.1)


def test_it_moves_along_both_axes() -> None:
    moved = crosses(only(pixels=2.5)) - ENDS
    assert uniform(moved[:, 0, 0], 2.5, 0.05)
    assert uniform(moved[:, 0, 1], 2.5, 0.05)
    assert abs(torch.corrcoef(moved[:, 0].T)[0, 1]) < 0.1  # of each other independent
    torch.testing.assert_close(moved[:, :1].expand_as(moved), moved, rtol=0, atol=0.1)  # the whole


def test_it_scales_each_axis() -> None:
    right, up, left, down = crosses(only(scale=0.2)).unbind(dim=1)
    wide, high = 18 / (right - left)[:, 0] - 1, 18 / (up - down)[:, 1] - 1
    assert uniform(wide, 0.2, 0.01)
    assert uniform(high, 0.2, 0.01)
    assert abs(torch.corrcoef(torch.stack([wide, high]))[0, 1]) < 0.1


def test_it_shears_rows_against_each_other() -> None:
    right, up, left, down = crosses(only(shear=0.3)).unbind(dim=1)
    assert uniform((up - down)[:, 0] / 18, 0.3, 0.01)
    torch.testing.assert_close(
        (up - down)[:, 1], torch.full((1000,), 18.0).double(), rtol=0, atol=0.1
    )
    torch.testing.assert_close(
        (right - left)[:, 0], torch.full((1000,), 18.0).double(), rtol=0, atol=0.1
    )


def test_it_bends_places_for_themselves() -> None:
    moved = crosses(only(bend=2)) - ENDS
    assert 1 < moved.abs().max() < 2.5
    between = torch.corrcoef(moved[:, :, 0].T)
    assert float((between - torch.eye(4)).abs().max()) < 0.3  # the ends go their own ways


def test_it_thickens_and_thins_strokes_alike() -> None:
    bar = torch.zeros(28, 28, dtype=torch.uint8)
    bar[4:24, 12:16] = 200
    ink = only(thicken=0.5)(bar.expand(1000, 28, 28), KEY, first_row=0)
    across = ink[:, 14].double()  # ends of the bar apart, a thicker one is wider to both sides
    assert torch.equal(across, across.flip(1))
    thicker, thinner = across[:, 11], 200 - across[:, 12]
    assert uniform(thicker - thinner, 100, 1)
    assert float(torch.minimum(thicker, thinner).max()) == 0  # each does one or the other
    assert set(across[:, [0, 10, 13]].unique().tolist()) == {0.0, 200.0}  # by one pixel at most


@pytest.mark.parametrize(
    "limits", [{"degrees": -1}, {"scale": 1}, {"bend": -0.1}, {"thicken": 1.1}]
)
def test_it_says_which_changes_there_are(limits: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="RandomAffine"):
        RandomAffine(**limits)


def test_a_composed_change_is_one_after_the_other() -> None:
    moved = Compose([RandomShift(2), RandomShift(3)])(dots(400), KEY, first_row=0)
    first = RandomShift(2)(dots(400), KEY, first_row=0)
    assert torch.equal(moved, RandomShift(3)(first, KEY + 1, first_row=0))
    # Each draws for itself: both at their farthest, in the same direction, is rare but happens.
    rows = [row for row, _ in shifts(moved)]
    assert (min(rows), max(rows)) == (-5, 5)


def test_a_pen_redraws_its_share_and_keeps_the_digit(mnist: MNISTDataModule) -> None:
    images = mnist.train_set.images[:1000]
    redrawn = RandomPen(share=0.3)(images, KEY, first_row=0)
    changed = (redrawn != images).flatten(1).any(dim=1)
    assert 0.25 < float(changed.float().mean()) < 0.35
    everything = RandomPen(share=1.0)(images, KEY, first_row=0)
    assert (everything.amax(dim=(1, 2)) == 255).all()
    ink, before = (x.float().flatten(1).sum(dim=1) for x in (everything, images))
    assert float((ink / before).quantile(0.05)) < 1.1  # as thin as it was, or nearly
    assert float((ink / before).quantile(0.95)) > 1.8  # much thicker
    both = torch.stack([everything.flatten(1).float(), images.flatten(1).float()], dim=1)
    alike = torch.stack([torch.corrcoef(pair)[0, 1] for pair in both])
    assert float(alike.quantile(0.02)) > 0.5  # and the same strokes
    assert torch.equal(RandomPen(share=0.0)(images, KEY, first_row=0), images)


@pytest.mark.parametrize("share", [-0.1, 1.1])
def test_it_says_which_shares_there_are(share: float) -> None:
    with pytest.raises(ValueError, match="RandomPen"):
        RandomPen(share)
