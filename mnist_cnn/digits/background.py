"""What a picture would be without ink: the background, which light and shadow vary.

Letters of the shapes: H and W pixels of the picture.
"""

from __future__ import annotations

import numpy as np
from PIL import Image
from scipy import ndimage

from mnist_cnn.digits.view import Array, resized

SIDE = 56  # pixels of the longer side at which the background is estimated
WINDOW = 0.4  # of the longer side: what is dark and wider is no stroke
ALIKE = 1e-3  # values that differ by less are one class
BINS = 128  # of a histogram; 8 bits have 256 values, so that few bins of a picture are empty


def estimate_background(values: Array) -> Array:
    """What the picture would be without dark features: follows light and shadow, not strokes."""
    small = resized(values, min(SIDE, max(values.shape)))
    window = max(3, round(WINDOW * max(small.shape)))  # with neighbours, however small
    clean = ndimage.median_filter(small, 3)  # without single bright pixels, which closing keeps
    # Beyond the border paper goes on getting darker, or lighter, as it did towards it.
    paper = ndimage.grey_dilation(clean, size=(window // 2, window // 2))
    wider = np.pad(paper, window, "reflect", reflect_type="odd")
    inside = (slice(window, -window), slice(window, -window))
    wider[inside] = clean
    closed = ndimage.grey_closing(wider, size=(window, window))
    smooth = ndimage.gaussian_filter(closed, 1.0)[inside].clip(0, clean.max())  # without its steps
    return np.asarray(Image.fromarray(smooth).resize(values.shape[::-1], Image.Resampling.BILINEAR))


def otsu(values: Array) -> float:
    """The threshold that splits values into the two most distinct classes (N. Otsu, 1979)."""
    least = float(values.min())
    counts, edges = np.histogram(values, BINS, (least, max(float(values.max()), least + ALIKE)))
    below, sums = np.cumsum(counts, dtype=float), np.cumsum(counts * np.arange(BINS))
    above = np.maximum(below[-1] - below, 1)
    between = (below * sums[-1] - below[-1] * sums) ** 2 / (below * above)
    return float(edges[1 + np.argmax(between)])
