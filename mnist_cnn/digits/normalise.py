"""Any picture of a digit in MNIST's own form.

MNIST's digits are ink bright on dark, cropped to the ink, scaled into 20×20 pixels keeping their
shape, with the grey edges of antialiasing, and moved in 28×28 so that their centre of mass is in
the middle (Y. LeCun et al., Gradient-based learning applied to document recognition, 1998). All
70,000 of them satisfy `is_mnist_form`, and so does what `normalise` returns.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from mnist_cnn.digits.decode import LARGE, PictureError
from mnist_cnn.digits.ink import NoInkError, find_ink
from mnist_cnn.digits.stroke_width import fit_square

Array = NDArray[np.float32]

SIDE, BOX = 28, 20  # pixels of MNIST's images, and of the square that the ink fits in
MIN_BRIGHTEST, OFF_CENTRE = 254, 0.52  # of MNIST: its dimmest image, its farthest from the middle
COLOURS = 128  # pixels of the longer side, at least, from which the axis of colours is found
OPACITY_STEP = 0.05  # opacity below it, or that differs by less, is not seen
CARD_FILL = 0.75  # of its box; strokes on transparent background leave more of it empty
CARD_CONTRAST = 0.2  # of the range; what is opaque and differs by less is one ink
WIDER_THAN_BYTES = ("I;16", "I;16L", "I;16B", "I;16N", "I", "F")


def normalise(picture: Image.Image) -> Tensor:
    """Turn a picture of a digit into what MNIST is.

    A picture that is 28×28 and in MNIST's own form comes back unchanged, its negative as the
    picture that it is the negative of.

    Args:
        picture: Any mode and size, dark on light or light on dark: what differs from the border is
            ink.

    Returns:
        (28, 28) uint8, ink bright on dark. `is_mnist_form` holds, unless nearly all ink is at one
        end, so that no place in 28×28 puts its centre in the middle.

    Raises:
        PictureError: If no ink is seen.
    """
    if picture.size == (SIDE, SIDE) and (ready := _ready(picture)) is not None:
        return torch.from_numpy(ready)
    try:
        ink = find_ink(grey(picture))
        return torch.from_numpy(_centre(fit_square(ink, BOX)))
    except NoInkError as error:
        raise PictureError(str(error)) from None


def is_mnist_form(image: NDArray[np.uint8]) -> bool:
    """Whether a (28, 28) image could be one of MNIST's: scaled to 20, centred, and bright on 0."""
    if image.min() > 0 or image.max() < MIN_BRIGHTEST:
        return False
    rows, columns = np.nonzero(image.any(axis=1))[0], np.nonzero(image.any(axis=0))[0]
    size = max(np.ptp(rows), np.ptp(columns)) + 1
    return size in (BOX - 1, BOX) and bool(
        np.abs(_centre_of_mass(image) - SIDE / 2).max() < OFF_CENTRE
    )


def grey(picture: Image.Image) -> Array:
    """The picture in one channel, with ink and background as different as its colours allow.

    Returns:
        (H, W) values in [0, 1]; transparency has become ink or background.

    Raises:
        NoInkError: If all of it is transparent.
    """
    if picture.mode in WIDER_THAN_BYTES:
        values = np.nan_to_num(np.asarray(picture, dtype=np.float32), posinf=0, neginf=0)
        values = values - min(float(values.min()), 0)
        top = float(values.max())  # 12 bits in 16, say: the next power of two is taken for white
        return values / (1 if top <= 1 else 2 ** np.ceil(np.log2(top + 1)) - 1)
    if picture.has_transparency_data:
        rgba = _floats(picture, "RGBA")
        return _without_transparency(_one_channel(rgba[..., :3]), rgba[..., 3])
    if picture.mode in ("1", "L"):
        return _floats(picture, "L")
    return _one_channel(_floats(picture, "RGB"))


def _floats(picture: Image.Image, mode: str) -> Array:
    """Values in [0, 1]; of a large picture, means of blocks."""
    blocks = -(-max(picture.size) // LARGE)
    plain = {"La": "LA", "RGBa": "RGBA"}.get(picture.mode, picture.mode)  # Pillow asks for a detour
    picture = picture.convert(plain).convert(mode)
    picture = picture.reduce(blocks) if blocks > 1 else picture
    return np.divide(np.asarray(picture), 255, dtype=np.float32)


def _one_channel(rgb: Array) -> Array:
    """Project the colours on the line along which they differ most: yellow on white is visible."""
    step = max(1, max(rgb.shape) // COLOURS)
    colours = rgb[::step, ::step].reshape(-1, 3)
    colours = colours - colours.mean(axis=0)
    _, axes = np.linalg.eigh(colours.T @ colours + 1e-6)  # grey, if all are the same
    axis = axes[:, -1] * (1 if axes[:, -1].sum() > 0 else -1)
    axis = axis / np.abs(axis).sum()
    return np.subtract(rgb @ axis, axis[axis < 0].sum(), dtype=np.float32)


def _without_transparency(values: Array, alpha: Array) -> Array:
    """Fill in a background; a drawing is seen by its opacity alone, whatever its colour."""
    if alpha.max() < OPACITY_STEP:
        raise NoInkError("is transparent all over")
    if np.ptp(alpha) < OPACITY_STEP:
        return values
    opaque = alpha > alpha.max() / 2
    rows, columns = np.nonzero(opaque.any(axis=1))[0], np.nonzero(opaque.any(axis=0))[0]
    filled = opaque.sum() / max(1, (np.ptp(rows) + 1) * (np.ptp(columns) + 1))
    if (
        filled > CARD_FILL and np.ptp(values[opaque]) > CARD_CONTRAST
    ):  # a card with a digit, cut out
        background = np.median(values[opaque])
        return values * alpha + background * (1 - alpha)
    return alpha


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


def _ready(picture: Image.Image) -> NDArray[np.uint8] | None:
    """The bytes of a 28×28 picture, or of its negative, if that is in MNIST's form."""
    if picture.mode in WIDER_THAN_BYTES or picture.has_transparency_data:
        return None
    rgb = np.asarray(picture.convert("RGB"))
    if (rgb != rgb[..., :1]).any():
        return None
    image = rgb[..., 0].copy()
    return next((i for i in (image, 255 - image) if is_mnist_form(i)), None)
