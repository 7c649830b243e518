"""Telling ink from background: on a clean background, or photographed on paper.

Letters of the shapes: H and W pixels of the picture.
"""

from __future__ import annotations

import numpy as np

from mnist_cnn.digits.background import estimate_background, otsu
from mnist_cnn.digits.components import Ink, Mask, label_components, ring
from mnist_cnn.digits.decode import PictureError
from mnist_cnn.digits.paper import without_lines
from mnist_cnn.digits.view import Array

WHITE = 99  # percentile of the brightness: white paper; a reflection may be brighter
MIN_WHITE = 0.05  # of the range; a picture that is darker all over is not brightened to noise
CLEAN = 1.5 / 255  # what the pixels of a drawn background differ by at most
FLAT_BORDER = 0.7  # of the border's pixels that are alike in a drawing; strokes may touch it
MIN_LIGHT = 0.15  # of the range: where paper is darker, dividing by its light would show noise
MIN_CONTRAST = 0.03  # of the range from black to white; less is no ink
MIN_SCORE = 0.05  # of a photograph's best piece; blank paper has 0.02, faint pencil 0.1
WHOLE = 1.2  # times as clear must what is clear in a drawing be to do without the rest
FAINT = 0.8  # of the threshold between two kinds of ink: the fainter ends of strokes are ink, too


def find_ink(values: Array) -> Ink:
    """What is ink in a picture: what differs from a background that is drawn or photographed.

    Args:
        values: (H, W) in [0, 1].

    Raises:
        PictureError: If nothing differs from the background by more than noise does.
    """
    # Half of the brightest, since a thin white line is less than 1 % of its picture.
    white = max(np.percentile(values, WHITE), values.max() / 2, MIN_WHITE)
    values = values / white  # a photograph may be dim
    border = ring(values)
    level = np.median(border)
    if np.mean(np.abs(border - level) <= CLEAN) > FLAT_BORDER:
        # Drawn: all that is not the border's colour may be ink, dark and light, however faint.
        depth = np.abs(values - level)
        whole = label_components(WHOLE * depth, without_lines(depth > MIN_CONTRAST))
        inks = [whole, *clear_ink(depth)]
        least = 0.0
    else:
        # On paper, half the light makes half the difference, and most of a border is paper.
        background = estimate_background(values)
        darker = (background - values) / np.maximum(background, MIN_LIGHT)
        lighter = values - (1 - estimate_background(1 - values))
        bright = min(1, ring(values).mean())
        inks = clear_ink(darker * (0.6 + 0.8 * bright)) + clear_ink(lighter * (1.4 - 0.8 * bright))
        least = MIN_SCORE
    ink = max(inks, key=lambda ink: ink.score)
    if ink.score <= least:
        raise PictureError("has no ink: nothing in it differs from its border")
    return ink


def clear_ink(depth: Array) -> list[Ink]:
    """What is deep, and the same without what comes in from the border, a table or a shadow."""
    tail = depth > MIN_CONTRAST
    ink = _deep(depth, tail)
    outside = np.isin(ink.labels, ring(ink.labels)) & (ink.labels > 0)
    if not outside.any():
        return [ink]
    return [ink, _deep(depth, tail & ~outside)]  # what comes in may be darker


def _deep(depth: Array, tail: Mask) -> Ink:
    limit = FAINT * otsu(depth[tail]) if tail.any() else np.inf
    mask = without_lines(tail & (depth > limit / 2)) & (depth > limit)
    return label_components(np.clip(depth - limit / 2, 0, None), mask)
