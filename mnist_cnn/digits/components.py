"""The connected pieces of what could be ink: strokes of digits, or specks, frames, shadows.

Letters of the shapes: H and W pixels of the picture.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mnist_cnn.digits.view import Array, Box

Mask = NDArray[np.bool_]
Slices = tuple[slice, slice]

EIGHT_CONNECTED = np.ones((3, 3), bool)  # neighbours that connect pixels: strokes may be diagonal

# Which components are judged; the others are specks.
MAX_COMPONENTS = 400  # the largest: judging takes time, and dust may leave thousands
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


class Component(NamedTuple):
    """A connected piece of what could be ink."""

    label: int  # its number in the labels
    box: Slices
    area: int  # pixels
    at_border: float  # share of a side of the picture that it covers, at most
    score: float = 1.0  # how much like the strokes of a digit it is

    @property
    def height(self) -> int:
        return self.box[0].stop - self.box[0].start

    @property
    def edges(self) -> Box:
        """The same box as left, top, right, bottom."""
        rows, columns = self.box
        return columns.start, rows.start, columns.stop, rows.stop

    @property
    def extent(self) -> int:
        """The longer side of its box."""
        return max(side.stop - side.start for side in self.box)


class Ink(NamedTuple):
    """What a picture may have for ink, if that is darker (or lighter) than the background."""

    depth: Array  # (H, W): how far from the background, in [0, 1]; noise is cut off
    labels: NDArray[np.int32]  # (H, W): the components' numbers, 0 for background
    components: list[Component]
    prior: float = 1.0  # how likely this is by the border alone
    soft: int = 1  # pixels, a square around each of a component's that has its edges in it

    @property
    def best(self) -> Component:
        return max(self.components, key=lambda component: component.score)


def label_components(depth: Array, mask: Mask) -> Ink:
    """Cut a mask of what could be ink into connected components, and judge each."""
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
        components.append(judged(component, depth, labels))
    return Ink(depth, labels, components)


def judged(component: Component, depth: Array, labels: NDArray[np.int32]) -> Component:
    """With how much like the strokes of a digit it is; from 0, or almost, to 1."""
    strokes = labels[component.box] == component.label
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
    score = (
        (component.extent / max(labels.shape)) ** 0.5  # a small digit is hardly less of a digit
        * factor(width / component.extent, WIDTH_TO_LENGTH)
        * factor(sharp, SHARP_SHARE)
        * contrast
        * border
    )
    return component._replace(score=float(score))


def mean_width(distances: NDArray[np.float64]) -> float:
    """Of strokes, from their pixels' distances to the outside: a quarter of it on average.

    The distances are from middle to middle: half a pixel more than to the edge.
    """
    return 4 * (float(distances.mean()) - 0.5)


def factor(value: float, no_yes: tuple[float, float]) -> float:
    """From `MIN_FACTOR`, where a feature says no, in a straight line to 1, where it says yes."""
    no, yes = no_yes
    return float(np.clip((value - no) / (yes - no), MIN_FACTOR, 1))


def encloses(outer: Component, inner: Component) -> bool:
    """Whether a component's box has another's inside."""
    pairs = zip(outer.box, inner.box, strict=True)
    return all(a.start < b.start and b.stop < a.stop for a, b in pairs)


def ring(values: NDArray[Any]) -> NDArray[Any]:
    """The outermost pixels."""
    return np.concatenate([values[0], values[-1], values[:, 0], values[:, -1]])


def bounds(mask: Mask) -> Box:
    """The box of what is true."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
