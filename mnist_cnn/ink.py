"""Finding the ink of a digit in a picture: on a clean ground, or photographed on paper."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

Array = NDArray[np.float32]

WORK_SIDE = 256  # pixels of the longer side at which ink is looked for
GROUND_SIDE = 48  # pixels of the longer side at which the ground is estimated
GROUND_WINDOW = 0.4  # of the longer side: what is dark and wider than this is ground
MIN_CONTRAST = 0.04  # of the range from black to white
STROKE = (1.4, 4.5)  # pixels of a 20×20 digit: MNIST's thinnest and thickest hundredth
THIN, THICK = 2.0, 4.0  # what thinner and thicker strokes become


class NoInkError(ValueError):
    """There is nothing to see in the picture."""


def find_ink(values: Array) -> Array:
    """Tell ink from ground.

    Args:
        values: (H, W) in [0, 1].

    Returns:
        (h, w), cropped to the ink: 0 where there is none, 1 in the middle of a stroke.

    Raises:
        NoInkError: If nothing differs from the ground by more than noise does.
    """
    small = shrink(values, WORK_SIDE)
    sign = polarity(small)
    ink, mask = separate(small if sign > 0 else 1 - small)
    rows, columns = np.nonzero(mask.any(axis=1))[0], np.nonzero(mask.any(axis=0))[0]
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    scale = max(values.shape) / max(small.shape)
    if scale > 1.5 and max(bottom - top, right - left) < WORK_SIDE / 3:  # look closer
        margin = (max(bottom - top, right - left)) // 2 + 1
        close = values[
            int(max(0, top - margin) * scale) : int((bottom + margin) * scale),
            int(max(0, left - margin) * scale) : int((right + margin) * scale),
        ]
        return find_ink(close)
    return (ink * mask)[top:bottom, left:right]


def shrink(values: Array, side: int) -> Array:
    """Make the longer side at most `side` pixels long."""
    height, width = values.shape
    scale = side / max(height, width)
    if scale >= 1:
        return values
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(Image.fromarray(values).resize(size, Image.Resampling.BOX))


def polarity(values: Array) -> int:
    """1 if the ink is darker than the border, -1 if it is lighter."""
    small = shrink(values, GROUND_SIDE)
    rows, columns = np.indices(small.shape, dtype=np.float32)
    y, x = (a / max(1, a.max()) * 2 - 1 for a in (rows, columns))
    terms = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=-1)
    ring = np.maximum(np.abs(x), np.abs(y)) > 0.85
    kept = ring
    for _ in range(4):  # ink may reach the border
        surface = terms @ np.linalg.lstsq(terms[kept], small[kept], rcond=None)[0]
        rest = np.abs(small - surface)
        kept = ring & (rest <= 2 * np.median(rest[ring]) + 0.01)
    rest = small - surface
    return 1 if (np.minimum(rest, 0) ** 2).sum() >= (np.maximum(rest, 0) ** 2).sum() else -1


def separate(values: Array) -> tuple[Array, NDArray[np.bool_]]:
    """Ink in [0, 1] and where it is, of dark ink on a light ground."""
    ground = estimate_ground(values)
    depth = (ground - values) / np.maximum(ground, 0.1)
    noise = 1.4826 * np.median(np.abs(np.diff(depth, axis=1))) / np.sqrt(2)
    if noise > 0.002:
        depth = ndimage.gaussian_filter(depth, 1.0)
    floor = max(MIN_CONTRAST, 4 * float(noise))
    tail = depth[depth > floor]
    if tail.size == 0:
        raise NoInkError("has no ink: nothing differs from its border")
    threshold = max(floor, otsu(tail) / 2 if noise <= 0.002 else otsu(tail))
    mask = main_parts(depth > threshold)
    top = np.percentile(depth[mask], 75)
    low = 0.0 if noise <= 0.002 else threshold / 2
    ink = np.clip((depth - low) / (top - low + 1e-6), 0, 1).astype(np.float32)
    near = ndimage.binary_dilation(mask, iterations=2) & (ink > 0.05)
    return ink, near


def estimate_ground(values: Array) -> Array:
    """What the picture would be without dark features: follows shadows, not strokes."""
    small = shrink(values, GROUND_SIDE)
    window = max(3, round(GROUND_WINDOW * max(small.shape)))
    closed = ndimage.grey_closing(ndimage.median_filter(small, 3), size=(window, window))
    smooth = ndimage.gaussian_filter(closed, 1.0)
    size = (values.shape[1], values.shape[0])
    return np.asarray(Image.fromarray(smooth).resize(size, Image.Resampling.BILINEAR))


def otsu(values: Array) -> float:
    """The threshold that splits values into the two most distinct classes (N. Otsu, 1979)."""
    counts, edges = np.histogram(values, bins=128)
    middles = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)
    above = below[-1] - below
    sums = np.cumsum(counts * middles)
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (sums / below - (sums[-1] - sums) / above) ** 2
    return float(edges[1:][np.argmax(np.nan_to_num(between))])


def main_parts(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The digit's parts: no specks, and nothing that comes in from the border if all else holds."""
    labels, count = ndimage.label(mask, structure=np.ones((3, 3)))
    if count <= 1:
        return mask
    areas = np.bincount(labels.ravel())[1:]
    ring = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    inside = ~np.isin(np.arange(1, count + 1), ring)
    if inside.any() and areas[inside].max() > 0.1 * areas.max():
        areas = areas * inside
    kept = np.flatnonzero(areas >= 0.05 * areas.max()) + 1
    return np.isin(labels, kept)


def set_stroke_width(ink: Array, box: int) -> NDArray[np.uint8]:
    """Scale ink into a square and give its strokes a width that MNIST's have.

    Args:
        ink: (h, w) in [0, 1], cropped.
        box: Pixels of the square.

    Returns:
        (h', w') uint8, the longer side of `box` pixels, the brightest pixel 255.
    """
    fine = 5 * box  # strokes are measured and changed at this scale
    large = resized(ink, fine)
    mask = large > 0.5
    inside = ndimage.distance_transform_edt(mask)
    width = (4 * float(inside[mask].mean()) - 2) * box / fine if mask.any() else 0
    change = 0.0
    if width < STROKE[0]:
        change = (THIN - width) / 2
    elif width > STROKE[1]:
        change = (THICK - width) / 2
    if change:
        padded = np.pad(mask, fine // 4)
        outside = ndimage.distance_transform_edt(~padded)
        signed = outside - ndimage.distance_transform_edt(padded)
        changed = np.clip(0.5 - (signed - change * fine / box), 0, 1).astype(np.float32)
        rows = np.nonzero((changed > 0.5).any(axis=1))[0]
        columns = np.nonzero((changed > 0.5).any(axis=0))[0]
        large = changed[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        ink = large
    done = resized(ink, box)
    return np.asarray(np.round(done * (255 / done.max())), dtype=np.uint8)


def resized(ink: Array, side: int) -> Array:
    """Scale so that the longer side has `side` pixels, with antialiasing."""
    height, width = ink.shape
    scale = side / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    values = np.asarray(Image.fromarray(ink).resize(size, Image.Resampling.BICUBIC))
    return np.clip(values, 0, 1)
