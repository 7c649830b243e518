"""A picture in one channel, with ink and background as different as its colours allow."""

from __future__ import annotations

import numpy as np
from PIL import Image

from mnist_cnn.digits.components import bounds
from mnist_cnn.digits.decode import PictureError
from mnist_cnn.digits.view import Array

LARGE = 1600  # pixels of the longer side; no digit needs more
COLOURS = 128  # pixels of the longer side, at least, from which the axis of colours is found
OPACITY_STEP = 0.05  # opacity below it, or that differs by less, is not seen
CARD_FILL = 0.75  # of its box; strokes on transparent background leave more of it empty
CARD_CONTRAST = 0.2  # of the range; what is opaque and differs by less is one ink
WIDER_THAN_BYTES = ("I;16", "I;16L", "I;16B", "I;16N", "I", "F")


def grey(picture: Image.Image) -> Array:
    """The picture in one channel, with ink and background as different as its colours allow.

    Returns:
        (H, W) values in [0, 1]; transparency has become ink or background.

    Raises:
        PictureError: If all of it is transparent.
    """
    if picture.mode in WIDER_THAN_BYTES:
        values = np.nan_to_num(np.asarray(picture, dtype=np.float32), posinf=0, neginf=0)
        values = values - min(float(values.min()), 0)
        top = float(values.max())  # 12 bits in 16, say: the next power of two is taken for white
        return values / (1 if top <= 1 else 2 ** np.ceil(np.log2(top + 1)) - 1)
    if picture.mode in ("L", "RGB") and not picture.has_transparency_data:
        picture = picture.reduce(-(-max(picture.size) // LARGE))  # before it has four channels
        if picture.mode == "L":
            return np.divide(np.asarray(picture), 255, dtype=np.float32)
    plain = {"La": "LA"}.get(picture.mode, picture.mode)  # Pillow asks for a detour
    reduced = picture.convert(plain).convert("RGBA").reduce(-(-max(picture.size) // LARGE))
    rgba = np.divide(np.asarray(reduced), 255, dtype=np.float32)
    return _without_transparency(_one_channel(rgba[..., :3]), rgba[..., 3])


def _one_channel(rgb: Array) -> Array:
    """Project the colours on the line along which neighbours differ most.

    Yellow on white is visible so, and ink on a ground whose colour goes from one side to the other.
    """
    step = max(1, max(rgb.shape) // COLOURS)
    colours = rgb[::step, ::step]
    edges = [np.diff(colours, axis=axis).reshape(-1, 3) for axis in (0, 1)]
    steps = np.concatenate(edges)
    _, axes = np.linalg.eigh(steps.T @ steps + 1e-6)  # grey, if all are the same
    axis = axes[:, -1] * (1 if axes[:, -1].sum() > 0 else -1)
    axis = axis / np.abs(axis).sum()
    return rgb @ np.float32(axis) - np.float32(axis[axis < 0].sum())


def _without_transparency(values: Array, alpha: Array) -> Array:
    """Fill in a background; a drawing is seen by its opacity alone, whatever its colour."""
    if alpha.max() < OPACITY_STEP:
        raise PictureError("is transparent all over")
    if np.ptp(alpha) < OPACITY_STEP:
        return values
    opaque = alpha > alpha.max() / 2
    left, top, right, bottom = bounds(opaque)
    filled = opaque[top:bottom, left:right].mean()
    if filled > CARD_FILL and np.ptp(values[opaque]) > CARD_CONTRAST:  # a card, cut out
        background = np.median(values[opaque])
        return values * alpha + background * (1 - alpha)
    return alpha
