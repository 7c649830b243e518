"""Where in a picture digits may be, each in MNIST's own form.

Letters of the shapes: H and W pixels of the picture.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property, reduce
from operator import or_
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from mnist_cnn.digits.components import EIGHT_CONNECTED, Ink, Piece, bounds
from mnist_cnn.digits.decode import PictureError
from mnist_cnn.digits.grey import grey
from mnist_cnn.digits.ink import find_ink
from mnist_cnn.digits.lines import clear, find_lines, find_pieces, segments
from mnist_cnn.digits.mnist_form import in_mnist_form, ready
from mnist_cnn.digits.paper import find_sheets
from mnist_cnn.digits.view import Array, Box, View, around, scaling

WORK_SIDE = 224  # pixels of the longer side at which ink is looked for
PAGE_SIDE = 1600  # at most, where there are many digits
TINY = 36  # pixels of the longer side: what has less is made twice as large: strokes get edges
LOOKS = 4  # how often a picture is looked at closer
SMALL = 3  # 1/3 of WORK_SIDE: a digit that is smaller is looked at closer,
CLOSER = 1.5  # if it gets more than so many times as large
SOFT = 1  # pixel around a piece is its blurred edge, but beyond a cut is what it was cut from
FULL_INK = 70  # percentile of the depth of a digit's ink that becomes 1: the middle of its strokes


@dataclass(frozen=True, eq=False)
class Candidate:
    """What may be a digit: some atoms in a row of a line of writing."""

    line: int
    start: int  # the first of its atoms, counted in its line
    stop: int  # after the last
    ink: NDArray[Any]  # (h, w) float32 in [0, 1], cropped; or uint8, an `image` already
    box: Box  # left, top, right, bottom in the picture, as it came
    likely: float  # how much like a digit's ink it is, by its contrast, size and place
    cuts: int = 0  # how many of its two sides are cuts through ink

    @cached_property
    def image(self) -> NDArray[np.uint8]:
        """(28, 28), ink bright on dark. Made when it is asked for: most cuts never are."""
        return self.ink if self.ink.dtype == np.uint8 else in_mnist_form(self.ink)


def find_digits(picture: Image.Image) -> list[Candidate]:
    """All that may be digits in a picture; which of them are is for a net to say.

    Args:
        picture: Any mode and size, dark on light or light on dark.

    Returns:
        At least one, in reading order. Candidates of a line that share atoms exclude each other.

    Raises:
        PictureError: If no ink is seen.
    """
    whole = ready(picture)
    if whole is None:
        return look(seen_whole(picture))
    # As it came, or, if it is in several pieces, these.
    count = ndimage.label(whole, structure=EIGHT_CONNECTED)[1]
    parts = [] if count == 1 else [c for c in look(seen_whole(picture)) if c.line == 0]
    atoms = max((candidate.stop for candidate in parts), default=1)
    everything = Candidate(0, 0, atoms, whole, (0, 0, *picture.size), 1.0)
    return [everything, *(part for part in parts if part.stop - part.start < atoms)]


def with_images(candidates: Sequence[Candidate]) -> list[Candidate]:
    """The same, with the images that are surely asked for made: those of what is not cut."""
    return [c if c.cuts else replace(c, ink=c.image) for c in candidates]


def likeliest(candidates: Sequence[Candidate]) -> Candidate:
    """The one that is most like a digit's ink, and of those of the same ink the whole."""
    return max(candidates, key=lambda c: (c.likely, c.stop - c.start))


def seen_whole(picture: Image.Image) -> View:
    """All of a picture."""
    values = grey(picture)
    return View(values, scaling(values.shape, picture.size[::-1]))


def look(view: View, side: int = WORK_SIDE, looks: int = LOOKS) -> list[Candidate]:
    """Look, and look closer, at what is on a sheet or is small.

    Args:
        view: Of the picture.
        side: Pixels of the longer side at which to look.
        looks: How many more there may be.

    Raises:
        PictureError: If no ink is seen.
    """
    at_hand = max(view.values.shape)
    seen = view.resized(2 * at_hand if at_hand < TINY else min(side, at_hand))
    ink = find_ink(seen.values)
    pieces = find_pieces(ink)
    parts = nearer(view, seen, ink, pieces) if looks > 1 else []
    left = looks - 1 if sum(map(len, parts)) == 1 else 1  # there may be a hundred
    rows: list[list[list[Candidate]]] = []
    for row in parts:
        rows.append([])
        for part, part_side in row:
            with suppress(PictureError):  # it was no sheet, or nothing is on it
                rows[-1].append(look(part, part_side, left))
    if any(rows):
        return joined(rows)
    found = []
    for number, line in enumerate(find_lines(pieces)):
        for start, stop, piece, cuts in segments(line, ink):
            strokes, box = cut_out(piece, ink, 0 if cuts else SOFT), seen.in_picture(piece.box)
            found.append(Candidate(number, start, stop, strokes, box, piece.score, cuts))
    return found


def nearer(view: View, seen: View, ink: Ink, pieces: list[Piece]) -> list[list[tuple[View, int]]]:
    """The parts to look at instead: sheets, in rows, or where the ink is, if it is small.

    Args:
        view: All that is at hand.
        seen: The same, as large as it was looked at.
        ink: Of `seen`.
        pieces: What of the ink may be digits.

    Returns:
        The parts, and the pixels of their longer sides at which to look.
    """
    scale = max(view.values.shape) / max(seen.values.shape)
    size = float(np.median([max(piece.width, piece.height) for piece in pieces]))
    if min(scale, WORK_SIDE / SMALL / size) > CLOSER:  # first: from afar titles touch panels
        near = np.array(reduce(or_, clear(ink)).box)  # a circle would be cut to arcs
        margin = size / 2 + 1  # shows some background
        left, top, right, bottom = np.round(scale * (near + margin * np.array([-1, -1, 1, 1])))
        part = view.cropped((int(left), int(top), int(right), int(bottom)))
        extent = max(part.values.shape) / scale
        return [[(part, round(np.clip(extent / size * WORK_SIDE / SMALL, WORK_SIDE, PAGE_SIDE)))]]
    sheets = find_sheets(seen.values, ink)
    boxes = [Piece(frozenset([n]), around(corners), 0.0) for n, corners in enumerate(sheets)]
    return [
        [(view.straightened(scale * sheets[n]), WORK_SIDE) for box in row for n in box.labels]
        for row in find_lines(boxes)
    ]


def joined(rows: list[list[list[Candidate]]]) -> list[Candidate]:
    """What is on sheets in rows: the first lines of those in a row are one, and so on."""
    found: list[Candidate] = []
    for row in rows:
        above = 1 + max((candidate.line for candidate in found), default=-1)
        atoms: Counter[int] = Counter()  # of each line, so far
        for candidates in row:
            before = atoms.copy()
            for c in candidates:
                start, stop = before[c.line] + c.start, before[c.line] + c.stop
                found.append(replace(c, line=above + c.line, start=start, stop=stop))
                atoms[c.line] = max(atoms[c.line], stop)
    return found


def cut_out(piece: Piece, ink: Ink, soft: int) -> Array:
    """The ink of a piece, (h, w), cropped: 0 where there is none, 1 in the middle of a stroke.

    Args:
        piece: What to cut out.
        ink: Where it is.
        soft: Pixels around it that are ink, too, as far as they are dark.
    """
    left, top, right, bottom = piece.box
    wider = (max(0, left - soft), max(0, top - soft), right + soft, bottom + soft)
    mask = ink.mask(piece._replace(box=wider))
    depth = ink.depth[wider[1] : wider[3], wider[0] : wider[2]]
    strength = np.percentile(depth[mask], FULL_INK)
    near = ndimage.maximum_filter(mask, 2 * soft + 1)
    strokes = np.where(near, np.clip(depth / strength, 0, 1), 0).astype(np.float32)
    left, top, right, bottom = bounds(strokes > 0)
    return strokes[top:bottom, left:right]
