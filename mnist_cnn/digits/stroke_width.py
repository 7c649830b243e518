"""Scaling ink into a square, with strokes as wide as MNIST's."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from mnist_cnn.digits.components import Mask, bounds, mean_width
from mnist_cnn.digits.view import Array

FINE = 5  # pixels, for one of the square's, at which strokes are measured and changed
#: Pixels of a 20×20 digit: 98 % of MNIST's have strokes between these widths.
THINNEST, THICKEST = 1.3, 4.5
THIN, THICK = 2.0, 4.0  # what thinner and thicker strokes become; MNIST's median is 2.2
HALF = 0.5  # of the strongest ink near it, at least: also strokes that have faded count
FAINTEST = 0.05  # of the strongest ink anywhere; less is background
NEAR = 5  # pixels, a square around each: wider than a hairline with its grey edges
REJOINED = 0.3  # below 0.5, so that gaps that scaling left in a hairline close


def fit_square(ink: Array, side: int) -> NDArray[np.uint8]:
    """Scale ink into a square; widen hairlines, which would fade away, and narrow fat strokes.

    Args:
        ink: (h, w) in [0, 1], cropped.
        side: Pixels of the square.

    Returns:
        (h', w') uint8, antialiased, the longer side of `side` pixels, the brightest pixel 255.
    """
    large = resized(ink, FINE * side)
    mask = large > 0.5
    width = stroke_width(mask)
    if width < THINNEST * FINE:  # also where it has faded so far that it is broken
        mask = resized(local_half(ink), FINE * side) > REJOINED
        width = min(width, stroke_width(mask)) if width else stroke_width(mask)
    change = 0.0  # of the width, in fine pixels
    if width < THINNEST * FINE:
        change = THIN * FINE - width
    elif width > THICKEST * FINE:
        deepest = float(ndimage.distance_transform_edt(mask).max())
        change = max(THICK * FINE - width, -deepest)  # leaves half of the widest place
    if change:
        ink = widened(mask, change)
    image = as_bytes(resized(ink, side))
    left, top, right, bottom = bounds(image > 0)
    if max(bottom - top, right - left) < side:  # edges that are too faint to be seen: without them
        scale = max(ink.shape) / side
        rows = slice(int(top * scale), math.ceil(bottom * scale))
        columns = slice(int(left * scale), math.ceil(right * scale))
        image = as_bytes(resized(ink[rows, columns], side))
    return image


def as_bytes(ink: Array) -> NDArray[np.uint8]:
    """Bytes of which the brightest is 255."""
    return np.asarray(np.round(ink * (255 / ink.max())), dtype=np.uint8)


def stroke_width(mask: Mask) -> float:
    """Mean width in pixels, at least 1 where there are strokes."""
    if not mask.any():
        return 0.0
    inside = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    return max(1.0, mean_width(inside[mask]))


def local_half(ink: Array) -> Array:
    """1 where ink is at least half as strong as the strongest near it."""
    return ((ink > FAINTEST) & (ink >= HALF * ndimage.maximum_filter(ink, NEAR))).astype(np.float32)


def widened(mask: Mask, change: float) -> Array:
    """Move the edges of strokes outwards, or inwards if `change` is negative, by half of it."""
    padded = np.pad(mask, int(abs(change)) + 2)
    outside = ndimage.distance_transform_edt(~padded)
    inside = ndimage.distance_transform_edt(padded)
    values = np.clip(0.5 + inside - outside + change / 2, 0, 1).astype(np.float32)
    left, top, right, bottom = bounds(values > 0.5)
    return values[top:bottom, left:right]


def resized(ink: Array, side: int) -> Array:
    """Scale so that the longer side has `side` pixels, with antialiasing."""
    height, width = ink.shape
    scale = side / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    values = np.asarray(Image.fromarray(ink).resize(size, Image.Resampling.BICUBIC))
    return np.clip(values, 0, 1)
