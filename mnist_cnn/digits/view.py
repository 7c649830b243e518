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
        height, width = self.values.shape
        scale = side / max(height, width)
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        way = Image.Resampling.BOX if scale < 1 else Image.Resampling.BICUBIC
        values = np.asarray(Image.fromarray(self.values).resize(size, way)).clip(0, 1)
        return View(values, self.to_picture @ np.diag([width / size[0], height / size[1], 1]))

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
        left, top, right, bottom = box
        corners = np.array([[x, y, 1] for x in (left, right) for y in (top, bottom)])
        x, y, w = self.to_picture @ corners.T
        x, y = x / w, y / w
        return (round(x.min()), round(y.min()), round(x.max()), round(y.max()))


def homography(source: Matrix, target: Matrix) -> Matrix:
    """The (3, 3) matrix that takes four places, (4, 2), to four others."""
    rows, values = [], []
    for (x, y), (u, v) in zip(source, target, strict=True):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
        values += [u, v]
    return np.append(np.linalg.solve(np.array(rows, float), np.array(values)), 1).reshape(3, 3)
