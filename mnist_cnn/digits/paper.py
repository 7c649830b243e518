"""What is written on: sheets, cards and frames, of which the inside counts, and ruled lines.

Letters of the shapes: H and W pixels of the picture.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import ConvexHull

from mnist_cnn.digits.background import otsu
from mnist_cnn.digits.components import EIGHT_CONNECTED, Ink, Mask
from mnist_cnn.digits.view import Array

Corners = NDArray[np.float64]  # (4, 2), x and y: top left, top right, bottom right, bottom left

# Sheets and frames.
SHEETS = 3  # the largest components, of which one may be a sheet
SHEET_SIDE = 0.2  # of the picture's longer side, at least; less is a hole in strokes
MIN_SHEET = 16  # pixels; less has no room for a digit, nor for `SHEET_EDGE` on both sides
SHEET_FILL = 0.9  # of its hull, holes filled, and its quadrilateral of that; an ellipse's has 0.64
SHEET_BOX = 0.25  # of its box; the longest sheet that is allowed, turned by 45°, has 0.32
SOLID = 0.65  # of its quadrilateral; what has less is a frame, or strokes
SHEET_LENGTH = 4  # times as long as it is wide, at most; more is a stroke or a bar
SHEET_GROUND = 0.5  # of what is around it, at most, is like it; around a hole in strokes, more is
SHEET_EDGE = 2  # pixels cut off all around: its blurred edge
SHEET_CONTRAST = 0.2  # of the picture's: less is a sheet with nothing on it

# Ruled paper; shares are of the width of the picture.
MIN_RULED_WIDTH = 64  # pixels; in less, a line and a stroke are equally thin
LINE_LENGTH = 0.6  # at least, gaps left out; strokes are shorter
LINE_MARGIN = 0.05  # a line goes on to either side of the picture, if not to its last pixel
LINE_THICKNESS, MIN_LINE_THICKNESS = 0.035, 4  # a line is thinner; the latter in pixels
LINE_RUN = 5  # 1/5 of the width: a line's pieces between crossing strokes are longer
LINE_GAP = 2  # 1/2 of the width: pieces of a line may be so far apart, where a digit covers it
LINE_RISE = 0.15  # at most, over the whole line; more is a stroke


def find_sheet(values: Array, ink: Ink) -> Corners | None:
    """The corners of a sheet, card, screen or frame with something on it.

    Args:
        values: (H, W) of the picture.
        ink: What in it is ink; a small card is, on a larger ground.
    """
    bright, _ = ndimage.label(values > otsu(values), structure=EIGHT_CONNECTED)
    both = bright, ink.labels
    return next((sheet for labels in both for sheet in _sheets(labels, values)), None)


def _sheets(labels: NDArray[np.int32], values: Array) -> Iterator[Corners]:
    mask = labels > 0
    areas = np.bincount(labels.ravel())[1:]
    boxes = ndimage.find_objects(labels)
    least, least_side = SHEET_CONTRAST * np.ptp(values), SHEET_SIDE * max(mask.shape)
    for index in np.argsort(-areas)[:SHEETS]:
        box = boxes[index]
        own = labels[box] == index + 1
        if _sides(box, mask.shape) > 1 or min(own.shape) <= max(least_side, MIN_SHEET):
            continue
        filled = ndimage.binary_fill_holes(own)
        if filled.sum() < SHEET_BOX * filled.size:
            continue
        beyond = (mask.sum() - mask[box][filled].sum()) / (mask.size - filled.sum())
        if beyond > SHEET_GROUND:
            continue
        hull, hull_area = convex_hull(filled)
        if filled.sum() < SHEET_FILL * hull_area:
            continue
        corners = quadrilateral(hull)
        sides = np.linalg.norm(np.roll(corners, -1, axis=0) - corners, axis=1)
        if max(sides) > SHEET_LENGTH * min(sides) or area(corners) < SHEET_FILL * hull_area:
            continue
        if solid := areas[index] > SOLID * hull_area:
            inside = values[box][ndimage.binary_erosion(filled, iterations=SHEET_EDGE + 1)]
            written = inside.size and np.ptp(inside) > least
        else:  # a frame: something is in it that isn't part of it
            written = (labels[box][filled] != 0).sum() > own.sum()
        if written:
            edge = SHEET_EDGE if solid else SHEET_EDGE + _thickness(own)
            inset = np.sign(corners.mean(axis=0) - corners) * min(edge, min(sides) / 4)
            yield corners + inset + (box[1].start, box[0].start)


def _sides(box: tuple[slice, slice], shape: tuple[int, ...]) -> int:
    """How many sides of a picture a box touches: that of a half in shadow, three."""
    pairs = zip(box, shape, strict=True)
    return sum((side.start == 0) + (side.stop == length) for side, length in pairs)


def _thickness(mask: Mask) -> float:
    """Of a frame's strokes: pixels on the way in from its box's sides, at the middle."""
    height, width = mask.shape
    ways = (mask[height // 2], mask[height // 2, ::-1], mask[:, width // 2], mask[::-1, width // 2])
    runs = [int(np.argmin(way[np.argmax(way) :])) + int(np.argmax(way)) for way in ways]
    return float(max(runs))


def convex_hull(mask: Mask) -> tuple[NDArray[np.float64], float]:
    """The corners of a mask's convex hull, (N, 2), x and y, and its area.

    Args:
        mask: With more than a line in it.
    """
    # Of each row the ends, which are all that a hull can touch.
    rows = np.flatnonzero(mask.any(axis=1))
    left, right = mask[rows].argmax(axis=1), mask.shape[1] - mask[rows, ::-1].argmax(axis=1)
    points = np.concatenate(
        [np.stack([x, rows + i], axis=1) for x in (left, right) for i in (0, 1)]
    )
    convex = ConvexHull(points)
    return points[convex.vertices].astype(np.float64), float(convex.volume)  # the area, in a plane


def quadrilateral(hull: NDArray[np.float64]) -> Corners:
    """The corners of what is nearly a quadrilateral, turned by less than 45°, by its hull."""
    # The rectangle of the least area around a hull has a side on one of the hull's.
    sides = np.roll(hull, -1, axis=0) - hull
    angles = np.unique(np.round(np.arctan2(sides[:, 1], sides[:, 0]) % (np.pi / 2), 4))
    areas = [float(np.prod(np.ptp(_turned(hull, -angle), axis=0))) for angle in angles]
    angle = angles[int(np.argmin(areas))]
    angle -= np.pi / 2 if angle > np.pi / 4 else 0
    u, v = _turned(hull, -angle).T
    u, v = (u - u.mean()) / max(1e-9, np.ptp(u)), (v - v.mean()) / max(1e-9, np.ptp(v))
    # Corners are farthest along the diagonals, in a picture of a sheet that lies askew as well.
    diagonals = ((-1, -1), (1, -1), (1, 1), (-1, 1))
    return np.array([hull[np.argmax(a * u + b * v)] for a, b in diagonals])


def _turned(points: NDArray[np.float64], angle: float) -> NDArray[np.float64]:
    cos, sin = np.cos(angle), np.sin(angle)
    return points @ np.array([[cos, sin], [-sin, cos]])


def area(corners: NDArray[np.float64]) -> float:
    """Of a polygon with corners (N, 2), in their order."""
    x, y = corners.T
    return float(abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2)


def without_lines(mask: Mask) -> Mask:
    """Take out thin straight lines across the picture, as ruled paper has, but not what they cross.

    A line may rise by 1 in 20. It reaches both sides of the picture: a digit's stroke does not.
    """
    for transposed in (False, True):
        m = (mask.T if transposed else mask).astype(np.uint8)
        width = m.shape[1]
        if width < MIN_RULED_WIDTH or np.mean(m.max(axis=0)) < LINE_LENGTH:
            continue
        thick = opened(m, max(MIN_LINE_THICKNESS, round(LINE_THICKNESS * width)), axis=0)
        thin = ndimage.maximum_filter1d(m - thick, 3, axis=0)  # a line that rises is in steps
        runs = opened(thin, width // LINE_RUN, axis=1) & m
        if not runs.any():
            continue
        joined = ndimage.maximum_filter(runs, (5, width // LINE_GAP))  # two rows off: it may rise
        labels, _ = ndimage.label(joined, structure=EIGHT_CONNECTED)
        lines = np.zeros_like(m)
        thickest = 0.0
        for label, (rows, columns) in enumerate(ndimage.find_objects(labels), start=1):
            piece = runs[rows, columns] * (labels[rows, columns] == label)
            seen = piece.max(axis=0)
            start, stop = columns.start + seen.argmax(), columns.stop - seen[::-1].argmax()
            if (
                seen.sum() >= LINE_LENGTH * width
                and rows.stop - rows.start <= LINE_RISE * width
                and max(start, width - stop) <= LINE_MARGIN * width
            ):
                lines[rows, columns] |= piece
                thickest = max(thickest, piece.sum() / seen.sum())
        if thickest:
            m = _without(m, lines, thickest)
            mask = (m.T if transposed else m) > 0
    return mask


def _without(m: NDArray[np.uint8], lines: NDArray[np.uint8], thickest: float) -> NDArray[np.uint8]:
    """The mask without lines along its rows; strokes that go on above and below a line stay."""
    grown = ndimage.maximum_filter1d(lines, 3, axis=0) & m
    rest = m & (1 - grown)
    # Across the line, twice for one that rises, and its edges.
    reach = 2 * round(thickest) + 5
    closed = ndimage.minimum_filter1d(ndimage.maximum_filter1d(rest, reach, axis=0), reach, axis=0)
    return rest | (closed & grown)


def opened(mask: NDArray[np.uint8], length: int, axis: int) -> NDArray[np.uint8]:
    """The runs along an axis that are at least so long."""
    eroded = ndimage.minimum_filter1d(mask, length, axis=axis)
    return ndimage.maximum_filter1d(eroded, length, axis=axis, origin=-1 if length % 2 == 0 else 0)
