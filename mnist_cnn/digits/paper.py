"""What is written on: sheets, cards and frames, of which the inside counts, and ruled lines.

Letters of the shapes: H and W pixels of the picture.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage

from mnist_cnn.digits.background import otsu
from mnist_cnn.digits.components import Ink, Mask, label_components, touched
from mnist_cnn.digits.view import Array

Corners = NDArray[np.float64]  # (4, 2), x and y: top left, top right, bottom right, bottom left
DIAGONALS = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)])  # from the middle, in the same order

# Sheets and frames.
ALIKE = 0.7  # of the largest one's area, at least: of those beside it
SHEET_SIDES = 1  # of the picture that a sheet may touch; a half in shadow touches three
MIN_SHEET = 16  # pixels; less has no room for a digit, nor for `SHEET_EDGE` on both sides
SOLID = 0.65  # of it, holes filled; what has less is a frame
SHEET_SIDE = 0.2  # of the picture's longer side; what is smaller may be a thick stroke
ON_IT = 0.25  # of the range from black to white, at least: how much what is on it differs
SHEET_FIT = 0.85  # intersection over union, at least, of it and of its quadrilateral
SHEET_GROUND = 0.5  # of what is around, at most, is like it; around a hole in strokes, more is
SHEET_EDGE = 2  # pixels cut off all around: its blurred edge
TICK = 5  # pixels: what is thinner is no part of it, such as the ticks of a plot's axes

# Ruled paper; shares are of the width of the picture.
MIN_RULED_WIDTH = 64  # pixels; in less, a line and a stroke are equally thin
LINE_MARGIN = 0.05  # a line goes on to either side of the picture, if not to its last pixel
LINE_THICKNESS, MIN_LINE_THICKNESS = 0.035, 4  # a line is thinner; the latter in pixels
LINE_RISE = 20  # 1/20 of the width, at most, up or down
LINE_FULL = 0.9  # of it, at least, is ink, its own or a digit's
LINE_OWN = 0.3  # of it, at least, is its own
LINE_PLACES = 32  # of it are looked at


def find_sheets(values: Array, ink: Ink) -> list[Corners]:
    """The corners of a sheet, card, screen, frame or panel of a plot, or of several alike.

    Args:
        values: (H, W) of the picture.
        ink: What in it is ink; a small card is, on a larger ground.
    """
    light = values > otsu(values)
    bright, dark = (label_components(values, mask, MIN_SHEET) for mask in (light, ~light))
    clearest = max(ink.components, key=lambda component: component.score)
    large = SHEET_SIDE * max(values.shape)
    for seen in (bright, ink, dark):
        inside = np.zeros(values.shape, bool)  # of those found
        found: list[Corners] = []
        least = 0.0
        for piece in sorted(seen.components, key=lambda piece: -piece.width * piece.height):
            side, sides = min(piece.width, piece.height), touched(piece.box, values)
            if side < MIN_SHEET or sides > SHEET_SIDES or piece.width * piece.height < least:
                continue
            left, top, right, bottom = piece.box
            own = seen.mask(piece)
            filled = ndimage.binary_fill_holes(own)
            if own.sum() < SOLID * filled.sum():
                filled &= ~own  # within a frame's inner edge
                if not seen.labels[top:bottom, left:right][filled].any():  # it is a 0
                    continue
            known = inside[top:bottom, left:right]  # what is changed there is in `inside`
            if filled.sum() < least or (known & filled).any():
                continue
            corners = _corners(filled, values[top:bottom, left:right], large)
            if corners is not None:
                found.append(np.add(corners, (left, top)))
                known |= filled | own
                least = max(least, ALIKE * filled.sum())
        if not found or np.mean(seen.labels[~inside] > 0) > SHEET_GROUND:
            continue
        left, top, right, bottom = clearest.box
        if min(np.ptp(found[0], axis=0)) >= large or inside[top:bottom, left:right].any():
            return found
    return []


def _corners(filled: Mask, values: Array, large: float) -> Corners | None:
    """Those of a component, if it is a quadrilateral: within its edge.

    Args:
        filled: Where it is, holes filled.
        values: Of the picture there.
        large: Pixels a side; what is smaller may be a thick stroke, and needs something on it.
    """
    solid = ndimage.binary_opening(filled, np.ones((TICK, TICK)))
    if not solid.any():
        return None
    corners = quadrilateral(solid)
    side = min(np.linalg.norm(np.roll(corners, -1, axis=0) - corners, axis=1))
    if side < MIN_SHEET:
        return None
    drawn = Image.new("1", filled.shape[::-1])
    ImageDraw.Draw(drawn).polygon(corners.ravel().tolist(), fill=1)
    fitting = np.asarray(drawn)
    if np.sum(fitting & filled) < SHEET_FIT * np.sum(fitting | filled):
        return None
    inner = values[ndimage.binary_erosion(solid, iterations=SHEET_EDGE)]
    if side < large and np.ptp(np.percentile(inner, [1, 99])) < ON_IT:
        return None
    return corners + SHEET_EDGE * np.sign(corners.mean(axis=0) - corners)


def quadrilateral(mask: Mask) -> Corners:
    """The corners of what is nearly a quadrilateral, turned by less than 45°.

    They are farthest along the diagonals, in a picture of a sheet that lies askew as well.
    """
    places = np.argwhere(mask)[:, ::-1]
    return places[(places @ DIAGONALS.T).argmax(axis=0)] + (DIAGONALS > 0.0)


def without_lines(mask: Mask) -> Mask:
    """Take out thin straight lines across the picture, as ruled or checked paper has."""
    return _without_level_lines(_without_level_lines(mask).T).T


def _without_level_lines(mask: Mask) -> Mask:
    """All of a line is ink, from side to side: its own, or a digit's that is written on it."""
    width = mask.shape[1]
    margin, most = int(LINE_MARGIN * width), width // LINE_RISE
    places = np.linspace(margin, width - 1 - margin, LINE_PLACES).astype(int)
    if width < MIN_RULED_WIDTH or not mask[:, places[[0, -1]]].any(axis=0).all():
        return mask
    thick = max(MIN_LINE_THICKNESS, round(LINE_THICKNESS * width))
    thin = mask & ~ndimage.grey_opening(mask, (thick, 1))
    columns = np.arange(width)
    beyond = ((2 * most, 2 * most), (0, 0))  # above and below it may go on, too
    near = ndimage.maximum_filter1d(1 * mask + thin, 3, axis=0)  # a line that rises is in steps
    near = np.pad(near, beyond, constant_values=3)
    lines = np.zeros(near.shape, bool)
    starts = most + np.flatnonzero(near[most:-most, places[0]])[:, np.newaxis]
    for rise in range(-most, most + 1):
        rows = rise * columns // width
        inked = near[starts + rows[places], places]
        full = (np.mean(inked > 0, axis=1) >= LINE_FULL) & (np.mean(inked == 2, axis=1) >= LINE_OWN)
        full &= np.all(inked[:, [0, -1]] > 0, axis=1)
        whole = full & np.all(inked < 3, axis=1)
        full = full if whole.any() else whole  # what leaves the picture is parallel to others
        lines[starts[full] + rows, columns] = True
    lines = lines[2 * most : -2 * most]
    return mask & ~(thin & ndimage.maximum_filter1d(lines, 3, axis=0))
