"""MNIST's own form: bright ink on dark, 20 pixels of it in 28, its centre of mass in the middle.

Cropped to the ink, scaled into 20×20 keeping its shape, with the grey edges of antialiasing, and
moved in 28×28 so that the centre of mass is in the middle (Y. LeCun et al., Gradient-based
learning applied to document recognition, 1998). All 70,000 images of MNIST satisfy
`is_mnist_form`, and so does what `in_mnist_form` returns.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from mnist_cnn.digits.components import bounds
from mnist_cnn.digits.grey import WIDER_THAN_BYTES
from mnist_cnn.digits.view import Array, resized

SIDE, BOX = 28, 20  # pixels of MNIST's images, and of the square that the ink fits in
HAIRLINE = 1.3  # pixels: 98 % of MNIST's strokes are wider; by as much are thinner ones widened,
WIDER = 0.5  # if less than this share of a digit's ink is as wide
MIN_BRIGHTEST, OFF_CENTRE = 254, 0.52  # of MNIST: its dimmest image, its farthest from the middle


def in_mnist_form(ink: Array) -> NDArray[np.uint8]:
    """Ink (h, w) in [0, 1], cropped, as (28, 28) uint8.

    `is_mnist_form` holds, unless nearly all ink is at one end, so that no place in 28×28 puts its
    centre in the middle.
    """
    thin = max(1, round(HAIRLINE * max(ink.shape) / BOX))
    if ndimage.grey_opening(ink, (thin, thin), mode="constant").sum() < WIDER * ink.sum():
        ink = ndimage.grey_dilation(np.pad(ink, thin // 2), (thin, thin))
    fitted = _fitted(ink)
    image = np.zeros((SIDE, SIDE), np.uint8)
    height, width = fitted.shape
    top, left = np.round(SIDE / 2 - _centre_of_mass(fitted)).astype(int)
    top, left = np.clip(top, 0, SIDE - height), np.clip(left, 0, SIDE - width)
    image[top : top + height, left : left + width] = fitted
    return image


def _fitted(ink: Array) -> NDArray[np.uint8]:
    """Scaled so that the longer side is `BOX`, antialiased, the brightest pixel 255."""
    values = resized(ink, BOX, Image.Resampling.BICUBIC).clip(0)
    return np.asarray(np.round(values * (255 / values.max())), dtype=np.uint8)


def is_mnist_form(image: NDArray[np.uint8]) -> bool:
    """Whether a (28, 28) image could be one of MNIST's: scaled to 20, centred, and bright on 0."""
    if image.min() > 0 or image.max() < MIN_BRIGHTEST:
        return False
    left, top, right, bottom = bounds(image > 0)
    off_centre = np.abs(_centre_of_mass(image) - SIDE / 2).max()
    return max(right - left, bottom - top) in (BOX - 1, BOX) and bool(off_centre < OFF_CENTRE)


def _centre_of_mass(image: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Row and column, (2,)."""
    return np.array(ndimage.center_of_mass(image))


def ready(picture: Image.Image) -> NDArray[np.uint8] | None:
    """The bytes of a 28×28 picture, or of its negative, if that is in MNIST's form."""
    more = picture.mode in WIDER_THAN_BYTES or picture.has_transparency_data
    if more or picture.size != (SIDE, SIDE):
        return None
    rgb = np.asarray(picture.convert("RGB"))
    image = rgb[..., 0].copy()
    grey = (rgb == rgb[..., :1]).all()
    return next((i for i in (image, 255 - image) if grey and is_mnist_form(i)), None)
