"""The connected pieces of what could be ink: strokes of a digit, or specks, lines, frames, shadows.

Letters of the shapes: H and W pixels of the picture.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mnist_cnn.digits.background import Array

Mask = NDArray[np.bool_]

EIGHT_CONNECTED = np.ones((3, 3))  # neighbours that connect pixels: strokes may be diagonal

# Which components are judged; the others are specks.
MAX_COMPONENTS = 12  # the largest: judging takes time, and dust may leave thousands
MIN_AREA = 3  # pixels; a drawing with less is blank but for dust
MIN_AREA_SHARE = 0.03  # of the largest component that does not come in from the border
INSIDE = 0.05  # of a side of the picture: what covers less of it is no table or shadow

# How much like a stroke a component is. Pairs: where a feature says no, and where it says yes.
WIDTH_TO_LENGTH = (0.45, 0.25)  # of a blob, of strokes
SHARP_SHARE = (0.35, 0.85)  # of the edge's pixels; light and shadow are soft on some side
EDGE_WIDTH = 2  # pixels from the outside: what is nearer is a stroke's edge
SHARP_STEP = 0.06  # of the contrast, from a pixel to the next; light and shadow change more slowly
MIN_FACTOR = 0.05  # of a feature that says no: the others may still outweigh it
BORDER_FACTOR = 0.6  # at most, for what touches the border: a digit may, but rarely does

# What belongs to the same digit as its best component.
FRAGMENT_AREA = 0.04  # of the best's, at least; less is a speck
FRAGMENT_SCORE = 0.02  # of the best's, at least; low, since a short piece scores low
FRAGMENT_GAP = 0.3  # of the best's longer side, at most; the stroke of a 5 may be so far off

# Frames, cards and sheets, which are no strokes.
HUG_BAND = 16  # 1/16 of the longer side: how far from its box's side an edge may be
FRAME_HUG, CARD_HUG = 0.8, 0.7  # of each side; a round 0 is as close along half of it
CARD_SIDE = 16  # pixels; less has no room for a digit, nor for `ink.CARD_EDGE` on both sides
CARD_FILL = 0.85  # of its box, holes filled; a card that is tilted fills less than all
SOLID_FILL = 0.65  # of its box; strokes leave more of it empty, but for an upright 1
SHEET_AREA = 12  # times as large as what is written on it; a 0 is not, beside its own hole
SHEET_CONTENT = 0.2  # of its longer side, at least; what is smaller is a hole in strokes, or dust

# Ruled paper; shares are of the width of the picture.
MIN_RULED_WIDTH = 64  # pixels; in less, a line and a stroke are equally thin
LINE_LENGTH = 0.6  # at least, gaps left out; strokes are shorter
LINE_THICKNESS, MIN_LINE_THICKNESS = 0.035, 4  # a line is thinner; the latter in pixels
LINE_RUN = 5  # 1/5 of the width: a line's pieces between crossing strokes are longer
LINE_GAP = 2  # 1/2 of the width: pieces of a line may be so far apart, where a digit covers it
LINE_RISE = 0.15  # at most, over the whole line; more is a stroke


class Component(NamedTuple):
    """A connected piece of what could be ink."""

    label: int  # its number in the labels
    box: tuple[slice, slice]
    area: int  # pixels
    at_border: float  # share of a side of the picture that it covers, at most
    score: float = 1.0  # how much like the strokes of a digit it is


class Ink(NamedTuple):
    """What a picture may have for ink, if that is darker (or lighter) than the background."""

    depth: Array  # (H, W): how far from the background, in [0, 1]; noise is cut off
    labels: NDArray[np.int32]  # (H, W): the components' numbers, 0 for background
    components: list[Component]
    prior: float = 1.0  # how likely this is by the border alone

    @property
    def best(self) -> Component:
        return max(self.components, key=lambda component: component.score)


def label_components(depth: Array, threshold: float, alone: float | None = None) -> Ink:
    """Cut what is deeper than `threshold` into connected components, and judge each.

    A component that is alone gets the score `alone`, if that is given.
    """
    mask = without_lines(depth > threshold)
    labels, count = ndimage.label(mask, structure=EIGHT_CONNECTED)
    if not count:
        return Ink(depth, labels, [])
    areas = np.bincount(labels.ravel())[1:]
    sides = [labels[0], labels[-1], labels[:, 0], labels[:, -1]]
    at_border = np.max(
        [np.bincount(side, minlength=count + 1)[1:] / len(side) for side in sides], axis=0
    )
    boxes = ndimage.find_objects(labels)
    within = areas * (at_border < INSIDE)
    least = max(MIN_AREA, MIN_AREA_SHARE * (within.max() or areas.max()))
    largest = [index for index in np.argsort(-areas)[:MAX_COMPONENTS] if areas[index] >= least]
    components = []
    for index in largest:
        component = Component(index + 1, boxes[index], areas[index], at_border[index])
        if count > 1 or alone is None:
            component = component._replace(score=likeness(component, depth, labels))
        else:
            component = component._replace(score=alone)
        components.append(component)
    return Ink(depth, labels, components)


def likeness(component: Component, depth: Array, labels: NDArray[np.int32]) -> float:
    """How much like the strokes of a digit a component is; from 0, or almost, to 1."""
    strokes = labels[component.box] == component.label
    length = max(strokes.shape)
    values = depth[component.box]
    inside = ndimage.distance_transform_edt(np.pad(strokes, 1))[1:-1, 1:-1]
    width = mean_width(inside[strokes])
    contrast = values[strokes].mean()
    sharp = 0.0
    if min(strokes.shape) > 1:
        steps = np.hypot(*np.gradient(values))[strokes & (inside < EDGE_WIDTH)]
        sharp = np.mean(steps > SHARP_STEP * contrast)
    away = 1 - component.at_border
    border = np.clip(away, MIN_FACTOR, BORDER_FACTOR) if component.at_border else 1
    return float(
        (length / max(labels.shape)) ** 0.5  # a root, as a small digit is hardly less of a digit
        * factor(width / length, WIDTH_TO_LENGTH)
        * factor(sharp, SHARP_SHARE)
        * contrast
        * border
    )


def mean_width(distances: NDArray[np.float64]) -> float:
    """Of strokes, from their pixels' distances to the outside: a quarter of it on average.

    The distances are from middle to middle: half a pixel more than to the edge.
    """
    return 4 * (float(distances.mean()) - 0.5)


def factor(value: float, no_yes: tuple[float, float]) -> float:
    """From `MIN_FACTOR`, where a feature says no, in a straight line to 1, where it says yes."""
    no, yes = no_yes
    return float(np.clip((value - no) / (yes - no), MIN_FACTOR, 1))


def digit_components(ink: Ink) -> list[Component]:
    """The best component and what belongs to it: a digit may be broken, or a 5 lack a joint."""
    components = [c for c in ink.components if not is_frame(c, ink)] or ink.components
    best = max(components, key=lambda component: component.score)
    kept = []
    for component in components:
        pairs = zip(component.box, best.box, strict=True)
        gaps = [max(0, a.start - b.stop, b.start - a.stop) for a, b in pairs]
        if component is best or (
            component.area >= FRAGMENT_AREA * best.area
            and component.score >= FRAGMENT_SCORE * best.score
            and component.at_border <= best.at_border
            and max(gaps) <= FRAGMENT_GAP * extent(best.box)
        ):
            kept.append(component)
    return kept


def is_frame(component: Component, ink: Ink) -> bool:
    """Whether a component runs along all sides of its box and encloses another."""
    mask = ink.labels[component.box] == component.label
    if not hugs(mask, FRAME_HUG):
        return False
    return any(encloses(component, other) for other in ink.components)


def find_card(ink: Ink) -> Component | None:
    """A component that is a sheet with something on it rather than strokes, the largest."""
    component = max(ink.components, key=lambda component: component.area)
    mask = ink.labels[component.box] == component.label
    solid = is_solid(component) and min(mask.shape) > CARD_SIDE and hugs(mask, CARD_HUG)
    return component if solid and ndimage.binary_fill_holes(mask).mean() > CARD_FILL else None


def hugs(mask: Mask, share: float) -> bool:
    """Whether ink runs along `share` of each side of a cropped mask."""
    band = max(1, max(mask.shape) // HUG_BAND)
    sides = (mask[:band], mask[-band:], mask[:, :band].T, mask[:, -band:].T)
    return min(mask.shape) > 2 * band and all(side.any(axis=0).mean() >= share for side in sides)


def encloses(outer: Component, inner: Component) -> bool:
    """Whether a component's box has another's inside."""
    pairs = zip(outer.box, inner.box, strict=True)
    return all(a.start < b.start and b.stop < a.stop for a, b in pairs)


def is_sheet(component: Component, inner: Component) -> bool:
    """Whether a component is what another is written on, rather than strokes around a hole."""
    return is_solid(component) or (
        component.area > SHEET_AREA * inner.area
        and extent(inner.box) > SHEET_CONTENT * extent(component.box)
    )


def is_solid(component: Component) -> bool:
    """Whether a component fills more of its box than strokes do."""
    rows, columns = component.box
    return component.area > SOLID_FILL * (rows.stop - rows.start) * (columns.stop - columns.start)


def extent(box: tuple[slice, slice]) -> int:
    """The longer side in pixels."""
    return max(side.stop - side.start for side in box)


def without_lines(mask: Mask) -> Mask:
    """Take out thin straight lines across the picture, as ruled paper has, but not what they cross.

    A line may rise by 1 in 20.
    """
    for transposed in (False, True):
        m = (mask.T if transposed else mask).astype(np.uint8)
        width = m.shape[1]
        if width < MIN_RULED_WIDTH or np.mean(m.max(axis=0)) < LINE_LENGTH:
            continue
        thick = opened(m, max(MIN_LINE_THICKNESS, round(LINE_THICKNESS * width)), axis=0)
        thin = ndimage.maximum_filter1d(m - thick, 3, axis=0)  # a line that rises is in steps
        runs = opened(thin, width // LINE_RUN, axis=1) & m
        joined = ndimage.maximum_filter(runs, (5, width // LINE_GAP))  # two rows off: it may rise
        labels, _ = ndimage.label(joined, structure=EIGHT_CONNECTED)
        lines = np.zeros_like(m)
        thickest = 0.0
        for label, (rows, columns) in enumerate(ndimage.find_objects(labels), start=1):
            piece = runs[rows, columns] * (labels[rows, columns] == label)
            length = piece.max(axis=0).sum()
            if length >= LINE_LENGTH * width and rows.stop - rows.start <= LINE_RISE * width:
                lines[rows, columns] |= piece
                thickest = max(thickest, piece.sum() / length)
        if thickest:
            # Strokes that cross a line come back: they go on above it and below it.
            grown = ndimage.maximum_filter1d(lines, 3, axis=0) & m
            rest = m & (1 - grown)
            reach = (
                2 * round(thickest) + 5
            )  # across the line, twice for one that rises, and its edges
            closed = ndimage.minimum_filter1d(
                ndimage.maximum_filter1d(rest, reach, axis=0), reach, axis=0
            )
            m = rest | (closed & grown)
            mask = (m.T if transposed else m) > 0
    return mask


def opened(mask: NDArray[np.uint8], length: int, axis: int) -> NDArray[np.uint8]:
    """The runs along an axis that are at least so long."""
    eroded = ndimage.minimum_filter1d(mask, length, axis=axis)
    return ndimage.maximum_filter1d(eroded, length, axis=axis, origin=-1 if length % 2 == 0 else 0)


def ring(values: NDArray[Any]) -> NDArray[Any]:
    """The outermost pixels."""
    return np.concatenate([values[0], values[-1], values[:, 0], values[:, -1]])


def bounds(mask: Mask) -> tuple[int, int, int, int]:
    """Top, bottom, left and right of what is true, as for slices."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
