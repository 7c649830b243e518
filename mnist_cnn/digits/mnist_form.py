"""MNIST's own form: bright ink on dark, 20 pixels of it in 28, its centre of mass in the middle.

Cropped to the ink, scaled into 20×20 keeping its shape, with the grey edges of antialiasing, and
moved in 28×28 so that the centre of mass is in the middle (Y. LeCun et al., Gradient-based
learning applied to document recognition, 1998). All 70,000 images of MNIST satisfy
`is_mnist_form`, and so does what `in_mnist_form` returns.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mnist_cnn.digits.grey import WIDER_THAN_BYTES
from mnist_cnn.digits.stroke_width import fit_square
from mnist_cnn.digits.view import Array

SIDE, BOX = 28, 20  # pixels of MNIST's images, and of the square that the ink fits in
MIN_BRIGHTEST, OFF_CENTRE = 254, 0.52  # of MNIST: its dimmest image, its farthest from the middle


def in_mnist_form(ink: Array) -> NDArray[np.uint8]:
    """Ink (h, w) in [0, 1], cropped, as (28, 28) uint8.

    `is_mnist_form` holds, unless nearly all ink is at one end, so that no place in 28×28 puts its
    centre in the middle.
    """
    return _centre(fit_square(ink, BOX))


def is_mnist_form(image: NDArray[np.uint8]) -> bool:
    """Whether a (28, 28) image could be one of MNIST's: scaled to 20, centred, and bright on 0."""
    if image.min() > 0 or image.max() < MIN_BRIGHTEST:
        return False
    rows, columns = np.nonzero(image.any(axis=1))[0], np.nonzero(image.any(axis=0))[0]
    size = max(np.ptp(rows), np.ptp(columns)) + 1
    return size in (BOX - 1, BOX) and bool(
        np.abs(_centre_of_mass(image) - SIDE / 2).max() < OFF_CENTRE
    )


def _centre_of_mass(image: NDArray[Any]) -> NDArray[np.float64]:
    """Row and column, (2,)."""
    mass = image.astype(np.float64)
    rows, columns = np.indices(image.shape)
    return np.array([(mass * rows).sum(), (mass * columns).sum()]) / mass.sum()


def _centre(ink: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Move ink of at most 20×20 in 28×28 by whole pixels, as MNIST did."""
    image = np.zeros((SIDE, SIDE), np.uint8)
    top, left = np.round(SIDE / 2 - _centre_of_mass(ink)).astype(int)
    height, width = ink.shape
    top, left = np.clip(top, 0, SIDE - height), np.clip(left, 0, SIDE - width)
    image[top : top + height, left : left + width] = ink
    return image


def ready(picture: Image.Image) -> NDArray[np.uint8] | None:
    """The bytes of a 28×28 picture, or of its negative, if that is in MNIST's form."""
    if picture.size != (SIDE, SIDE):
        return None
    if picture.mode in WIDER_THAN_BYTES or picture.has_transparency_data:
        return None
    rgb = np.asarray(picture.convert("RGB"))
    if (rgb != rgb[..., :1]).any():
        return None
    image = rgb[..., 0].copy()
    return next((i for i in (image, 255 - image) if is_mnist_form(i)), None)
