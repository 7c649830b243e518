"""What a picture would be without ink: the background, which light and shadow vary.

Letters of the shapes: H and W pixels of the picture.
"""

from __future__ import annotations

import numpy as np
from PIL import Image
from scipy import ndimage

from mnist_cnn.digits.view import Array

BACKGROUND_SIDE = 56  # pixels of the longer side at which the background is estimated
BACKGROUND_WINDOW = 0.4  # of the longer side: what is dark and wider is no stroke
BINS = 128  # of a histogram; 8 bits have 256 values, so that few bins of a picture are empty

# A picture is evenly lit if one surface of the second order describes nearly all of it.
FITS = 4  # of the surface, each without what the last one shows to be ink
MIN_OUTLIER = 0.01  # of the range: in a picture without noise, rounding is no outlier
LIT_ERROR, LIT_SHARE = 0.06, 0.85  # of the range, at most, in so much of the picture
MIN_LEVEL, MIN_LIGHT = 0.05, 0.2  # of the range, of the level: darker is not brightened to noise


def evenly_lit(values: Array) -> Array:
    """Divide by the light, if nearly all of the picture follows a smooth surface."""
    small = shrink(values, BACKGROUND_SIDE)
    y, x = (axis / max(1, axis.max()) * 2 - 1 for axis in np.indices(small.shape, np.float32))
    terms = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=-1)
    kept = np.ones(small.shape, bool)
    surface = small
    for _ in range(FITS):
        known = terms[kept]
        surface = terms @ np.linalg.lstsq(known.T @ known, known.T @ small[kept], rcond=None)[0]
        rest = np.abs(small - surface)
        kept = rest <= 2 * np.median(rest) + MIN_OUTLIER  # 82 % of normal noise, and no ink
    if np.mean(rest < LIT_ERROR) < LIT_SHARE:
        return values  # for `estimate_background`: the edge of a shadow or a table
    level = float(np.median(small))
    light = np.maximum(surface / max(level, MIN_LEVEL), MIN_LIGHT)
    return (values / enlarged(light, values.shape)).astype(np.float32)


def estimate_background(values: Array) -> Array:
    """What the picture would be without dark features: follows light and shadow, not strokes."""
    small = shrink(values, BACKGROUND_SIDE)
    window = max(3, round(BACKGROUND_WINDOW * max(small.shape)))  # with neighbours, however small
    clean = ndimage.median_filter(small, 3)  # without single bright pixels, which closing keeps
    closed = ndimage.grey_closing(clean, size=(window, window))
    smooth = ndimage.gaussian_filter(closed, 1.0)  # closing leaves steps
    return enlarged(smooth, values.shape)


def enlarged(values: Array, shape: tuple[int, ...]) -> Array:
    """The inverse of `shrink`, but smooth."""
    size = (shape[1], shape[0])
    picture = Image.fromarray(values.astype(np.float32))
    return np.asarray(picture.resize(size, Image.Resampling.BILINEAR))


def shrink(values: Array, side: int) -> Array:
    """Make the longer side at most `side` pixels long."""
    height, width = values.shape
    scale = side / max(height, width)
    if scale >= 1:
        return values
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(Image.fromarray(values).resize(size, Image.Resampling.BOX))


def noise_of(values: Array) -> float:
    """Standard deviation of the noise, from neighbours: most of them are on the same background."""
    if min(values.shape) < 3:
        return 0.0
    differences = values[:, 1:-1] * 2 - values[:, :-2] - values[:, 2:]
    # A normal distribution's deviation is 1.4826 medians; the differences' variance is 1 + 4 + 1 of
    # the noise's.
    return float(1.4826 * np.median(np.abs(differences)) / 6**0.5)


def otsu(values: Array) -> float:
    """The threshold that splits values into the two most distinct classes (N. Otsu, 1979)."""
    if np.ptp(values) < 1e-6:
        return float(values[0])
    edges = np.linspace(values.min(), values.max(), BINS + 1)
    bins = ((values - edges[0]) * (BINS / np.ptp(values))).astype(np.intp).ravel()
    counts = np.bincount(bins.clip(max=BINS - 1), minlength=BINS)  # faster than np.histogram
    middles = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)
    above = below[-1] - below
    sums = np.cumsum(counts * middles)
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (sums / below - (sums[-1] - sums) / above) ** 2
    return float(edges[1:][np.argmax(np.nan_to_num(between))])
