"""The connected pieces of what could be ink: strokes of digits, or specks, frames, shadows.

Letters of the shapes: H and W pixels of the picture.
"""

from __future__ import annotations

from operator import eq
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mnist_cnn.digits.view import Array, Box

Mask = NDArray[np.bool_]

EIGHT_CONNECTED = np.ones((3, 3), bool)  # neighbours that connect pixels: strokes may be diagonal
MAX_COMPONENTS = 400  # the largest are looked at: dust may leave thousands
MIN_AREA = 3  # pixels; less is dust
BORDER = 0.7  # of the score is left for each side of the picture that a piece touches


class Piece(NamedTuple):
    """Ink that may be a digit: a connected component, several, or a slice of them."""

    labels: frozenset[int]  # of its components
    box: Box  # of its ink with these labels, in these columns
    score: float  # how much like a digit's ink it is, by its contrast, size and place

    @property
    def width(self) -> int:
        return self.box[2] - self.box[0]

    @property
    def height(self) -> int:
        return self.box[3] - self.box[1]

    def __or__(self, other: Piece) -> Piece:
        lefts, tops, rights, bottoms = zip(self.box, other.box, strict=True)
        box = (min(lefts), min(tops), max(rights), max(bottoms))
        return Piece(self.labels | other.labels, box, max(self.score, other.score))


class Ink(NamedTuple):
    """What a picture may have for ink."""

    depth: Array  # (H, W): how far from the background
    labels: NDArray[np.int32]  # (H, W): the components' numbers, 0 for background
    components: list[Piece]

    @property
    def score(self) -> float:
        return max((component.score for component in self.components), default=0.0)

    def mask(self, piece: Piece) -> Mask:
        """Where a piece's ink is in its box, (height, width)."""
        left, top, right, bottom = piece.box
        return np.isin(self.labels[top:bottom, left:right], list(piece.labels))


def label_components(depth: Array, mask: Mask, least: int = MIN_AREA) -> Ink:
    """Cut a mask of what could be ink into connected components of so many pixels at least."""
    labels, _ = ndimage.label(mask, structure=EIGHT_CONNECTED)
    areas = np.bincount(labels.ravel())
    labels[areas[labels] < least] = 0
    places = ndimage.find_objects(labels)
    components = []
    by_size = np.argsort(-areas[1:])[:MAX_COMPONENTS] + 1
    for number in by_size[areas[by_size] >= least]:
        rows, columns = places[number - 1]
        box = (columns.start, rows.start, columns.stop, rows.stop)
        contrast = depth[rows, columns][labels[rows, columns] == number].mean()
        extent = max(box[2] - box[0], box[3] - box[1]) / max(labels.shape)
        # A small digit is hardly less of a digit; one may touch a border, but rarely does.
        score = float(contrast * extent**0.5 * BORDER ** touched(box, labels))
        components.append(Piece(frozenset([int(number)]), box, score))
    return Ink(depth, labels, components)


def touched(box: Box, picture: NDArray[Any]) -> int:
    """How many sides of a picture a box touches."""
    return sum(map(eq, box, (0, 0, *picture.shape[::-1])))


def ring(values: NDArray[Any]) -> NDArray[Any]:
    """The outermost pixels."""
    return np.concatenate([values[0], values[-1], values[:, 0], values[:, -1]])


def bounds(mask: Mask) -> Box:
    """The box of what is true."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
