"""What is written on: sheets, cards and frames, of which the inside counts, and ruled lines.

Letters of the shapes: H and W pixels of the picture.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage

from mnist_cnn.digits.background import otsu
from mnist_cnn.digits.components import EIGHT_CONNECTED, Ink, Mask, bounds, touched
from mnist_cnn.digits.view import Array

Corners = NDArray[np.float64]  # (4, 2), x and y: top left, top right, bottom right, bottom left
DIAGONALS = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)])  # from the middle, in the same order

# Sheets and frames.
SHEETS = 3  # the largest components, of which one may be a sheet
SHEET_SIDES = 1  # of the picture that a sheet may touch; a half in shadow touches three
SHEET_SIDE = 0.2  # of the picture's longer side, at least; less is a hole in strokes
MIN_SHEET = 16  # pixels; less has no room for a digit, nor for `SHEET_EDGE` on both sides
SHEET_FIT = 0.85  # intersection over union, at least, of it and of its quadrilateral
SHEET_GROUND = 0.5  # of what is around it, at most, is like it; around a hole in strokes, more is
SOLID = 0.65  # of it, holes filled; what has less is a frame, or strokes
SHEET_EDGE = 2  # pixels cut off all around: its blurred edge

# Ruled paper; shares are of the width of the picture.
MIN_RULED_WIDTH = 64  # pixels; in less, a line and a stroke are equally thin
LINE_MARGIN = 0.05  # a line goes on to either side of the picture, if not to its last pixel
LINE_THICKNESS, MIN_LINE_THICKNESS = 0.035, 4  # a line is thinner; the latter in pixels
LINE_RUN = 5  # 1/5 of the width: a line's pieces between crossing strokes are longer
LINE_GAP = 3  # 1/3 of the width: pieces of a line may be so far apart, where a digit covers it


def find_sheet(values: Array, ink: Ink) -> Corners | None:
    """The corners of a sheet, card, screen or frame with something on it.

    Args:
        values: (H, W) of the picture.
        ink: What in it is ink; a small card is, on a larger ground.
    """
    bright, _ = ndimage.label(values > otsu(values), structure=EIGHT_CONNECTED)
    found = (
        _corners(labels, number + 1)
        for labels in (bright, ink.labels)
        for number in np.argsort(-np.bincount(labels.ravel())[1:])[:SHEETS]
    )
    return next((corners for corners in found if corners is not None), None)


def _corners(labels: NDArray[np.int32], number: int) -> Corners | None:
    """Those of a component, if it is a sheet or a frame."""
    left, top, right, bottom = box = bounds(labels == number)
    within = labels[top:bottom, left:right]
    own = within == number
    least = max(MIN_SHEET, SHEET_SIDE * max(labels.shape))
    if touched(box, labels) > SHEET_SIDES or min(own.shape) < least:
        return None
    filled = ndimage.binary_fill_holes(own)
    corners = quadrilateral(filled)
    edges = np.roll(corners, -1, axis=0) - corners
    turns = np.linalg.det(np.stack([edges, np.roll(edges, -1, axis=0)], axis=1))
    if min(np.linalg.norm(edges, axis=1)) < least or min(turns) < max(turns) / 10:
        return None  # a stroke that lies askew; nearly a triangle, which no perspective makes
    drawn = Image.new("1", own.shape[::-1])
    ImageDraw.Draw(drawn).polygon(corners.ravel().tolist(), fill=1)
    fitting = np.asarray(drawn)
    if np.sum(fitting & filled) < SHEET_FIT * np.sum(fitting | filled):
        return None
    around = np.count_nonzero(labels) - np.count_nonzero(within[filled])
    if around > SHEET_GROUND * (labels.size - filled.sum()):
        return None
    if own.sum() < SOLID * filled.sum() and not np.any(within[filled & ~own]):
        return None  # a frame with nothing in it: a 0
    corners = corners + SHEET_EDGE * np.sign(corners.mean(axis=0) - corners)
    return np.add(corners, (left, top))


def quadrilateral(mask: Mask) -> Corners:
    """The corners of what is nearly a quadrilateral, turned by less than 45°.

    They are farthest along the diagonals, in a picture of a sheet that lies askew as well.
    """
    places = np.argwhere(mask)[:, ::-1]
    return places[(places @ DIAGONALS.T).argmax(axis=0)] + (DIAGONALS > 0.0)


def without_lines(mask: Mask) -> Mask:
    """Take out thin straight lines across the picture, as ruled paper has.

    A line may rise by 1 in 20. It reaches both sides of the picture: a digit's stroke does not.
    """
    for transposed in (False, True):
        m = (mask.T if transposed else mask).astype(np.uint8)
        width = m.shape[1]
        margin = 1 + int(LINE_MARGIN * width)
        reaches = m[:, :margin].any() and m[:, -margin:].any()
        if width < MIN_RULED_WIDTH or not reaches:
            continue
        thin = m - opened(m, max(MIN_LINE_THICKNESS, round(LINE_THICKNESS * width)), axis=0)
        thin = ndimage.maximum_filter1d(thin, 3, axis=0)  # a line that rises is in steps
        runs = opened(thin, max(1, width // LINE_RUN), axis=1) & m
        joined = ndimage.maximum_filter(runs, (5, width // LINE_GAP))  # two rows off: it may rise
        labels, _ = ndimage.label(joined, structure=EIGHT_CONNECTED)
        labels *= runs
        for number, box in enumerate(ndimage.find_objects(labels), start=1):
            if box and max(box[1].start, width - box[1].stop) < margin:
                line = ndimage.maximum_filter1d(labels == number, 3, axis=0)  # and its edges
                m[line] = 0
        mask = (m.T if transposed else m) > 0
    return mask


def opened(mask: NDArray[np.uint8], length: int, axis: int) -> NDArray[np.uint8]:
    """The runs along an axis that are at least so long."""
    eroded = ndimage.minimum_filter1d(mask, length, axis=axis)
    return ndimage.maximum_filter1d(eroded, length, axis=axis, origin=-1 if length % 2 == 0 else 0)
