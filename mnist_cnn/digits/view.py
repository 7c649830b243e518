"""A part of a picture, seen larger, smaller or straightened, that knows where it came from.

Letters of the shapes: H and W pixels. Places are continuous: pixel i reaches from i to i + 1.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Array = NDArray[np.float32]
Matrix = NDArray[np.float64]
Box = tuple[int, int, int, int]  # left, top, right, bottom, as Pillow has it


class View(NamedTuple):
    """What is seen of a picture."""

    values: Array  # (H, W) in [0, 1]
    to_picture: Matrix  # (3, 3), the homography from its places (x, y, 1) to the picture's

    def resized(self, side: int) -> View:
        """With a longer side of `side` pixels."""
        values = resized(self.values, side).clip(0, 1)
        return View(values, self.to_picture @ scaling(values.shape, self.values.shape))

    def cropped(self, box: Box) -> View:
        """A part of it; what of the box is outside is left out."""
        left, top, right, bottom = (max(0, edge) for edge in box)
        moved = np.array([[1, 0, left], [0, 1, top], [0, 0, 1]])
        return View(self.values[top:bottom, left:right], self.to_picture @ moved)

    def straightened(self, corners: Matrix) -> View:
        """A quadrilateral as the rectangle that it is a picture of.

        Args:
            corners: (4, 2), x and y: top left, top right, bottom right, bottom left.
        """
        sides = np.linalg.norm(np.roll(corners, -1, axis=0) - corners, axis=1)
        width, height = (max(1, round(max(sides[i], sides[i + 2]))) for i in (0, 1))
        flat = np.array([[0, 0], [width, 0], [width, height], [0, height]])
        matrix = homography(flat, corners)
        numbers, way = tuple(matrix.ravel()[:8]), Image.Transform.PERSPECTIVE
        smooth = Image.Resampling.BILINEAR
        values = Image.fromarray(self.values).transform((width, height), way, numbers, smooth)
        return View(np.asarray(values), self.to_picture @ matrix)

    def in_picture(self, box: Box) -> Box:
        """The box of the picture that has a box of this view in it."""
        places = np.array([[x, y, 1] for x in box[::2] for y in box[1::2]]) @ self.to_picture.T
        return around(np.round(places[:, :2] / places[:, 2:]))


def around(places: Matrix) -> Box:
    """The box around whole places, (N, 2), x and y."""
    (left, top), (right, bottom) = places.min(axis=0), places.max(axis=0)
    return int(left), int(top), int(right), int(bottom)


def resized(values: Array, side: int, way: Image.Resampling | None = None) -> Array:
    """Values with a longer side of `side` pixels; if no way is given, means where it is smaller."""
    height, width = values.shape
    scale = side / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    way = way or (Image.Resampling.BOX if scale < 1 else Image.Resampling.BICUBIC)
    return np.asarray(Image.fromarray(values).resize(size, way))


def scaling(source: tuple[int, ...], target: tuple[int, ...]) -> Matrix:
    """The (3, 3) matrix that takes places of a shape (H, W) to those of another."""
    return np.diag([target[1] / source[1], target[0] / source[0], 1.0])


def homography(source: Matrix, target: Matrix) -> Matrix:
    """The (3, 3) matrix that takes four places, (4, 2), to four others."""
    places = np.append(source, np.ones((4, 1)), axis=1)
    none = np.zeros_like(places)
    x, y = (-places * target[:, i : i + 1] for i in (0, 1))
    equations = np.block([[places, none, x], [none, places, y]])
    *others, last = np.linalg.svd(equations)[2][-1]
    return np.array([*others, last]).reshape(3, 3) / last
