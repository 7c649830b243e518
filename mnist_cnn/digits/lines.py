"""Which pieces of ink may be digits, in reading order.

A line of writing is cut into atoms: pieces of ink, and slices of a piece that is so wide that
digits may touch in it. A digit is a few atoms in a row. Where it isn't plain which, all that could
be digits are given, and whoever can read chooses (a segmentation lattice, as Y. LeCun et al.,
1998, read the numbers on cheques).

Letters of the shapes: H and W pixels of the picture.
"""

from __future__ import annotations

from functools import reduce
from itertools import accumulate, pairwise
from operator import or_
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from mnist_cnn.digits.components import Component, Ink, Mask, bounds
from mnist_cnn.digits.view import Box

# What can be a digit, beside the component that is most like one.
PEER_HEIGHTS = (0.5, 2.0)  # of its height: numbers are written in one size
PEER_BORDER = 0.5  # of a side of the picture that it covers, at most
PEER_SCORE = 0.1  # of its score, at least
RING_SPACE = 0.05  # of a ring's sides, its stroke and the space to a digit in it, at least

# What belongs to a digit beside it: a digit may be broken, or a 5 lack a joint.
FRAGMENT_AREA = 0.04  # of the digit's, at least; less is a speck
FRAGMENT_SCORE = 0.02  # of the digit's, at least; low, since a short piece scores low
FRAGMENT_GAP = 0.3  # of the digit's longer side, at most; the stroke of a 5 may be so far off
STACKED_GAP = 0.1  # of the height of both: two halves of a digit, not two lines of writing
OVERLAP = 0.5  # of the lesser of two sides: one is above the other, or both are in one line

# Where it isn't plain what a digit is.
CLOSE = 0.35  # of a line's height: a gap that may be a break in a stroke
CUT_WIDTH = 0.9  # of its height: a piece that is wider may be of several digits
CUTS = 8  # the most places where one is cut
MIN_SLICE = 0.12  # of its height, at either end; between two cuts, half as much
MAX_WIDTH = 1.7  # of its height: of a digit
MAX_ATOMS = 8  # of a digit


class Piece(NamedTuple):
    """Ink that is at least a whole digit, or half of one that is broken; or a slice of such ink."""

    labels: frozenset[int]  # of its components
    box: Box  # of its ink with these labels, in these columns
    score: float  # how much like ink it is

    @property
    def height(self) -> int:
        return self.box[3] - self.box[1]

    @property
    def width(self) -> int:
        return self.box[2] - self.box[0]

    @property
    def rows(self) -> tuple[int, int]:
        return self.box[1], self.box[3]

    def mask(self, ink: Ink) -> Mask:
        """Where its ink is in its box, (height, width)."""
        left, top, right, bottom = self.box
        labels = ink.labels[top:bottom, left:right]
        ours = np.zeros(max(labels.max(), *self.labels) + 1, bool)
        ours[list(self.labels)] = True
        return ours[labels]

    def __or__(self, other: Piece) -> Piece:
        lefts, tops, rights, bottoms = zip(self.box, other.box, strict=True)
        box = (min(lefts), min(tops), max(rights), max(bottoms))
        return Piece(self.labels | other.labels, box, max(self.score, other.score))


class Segment(NamedTuple):
    """Atoms `start` to `stop` of a line, which may be a digit."""

    start: int
    stop: int
    piece: Piece
    cuts: int  # how many of its two sides are cuts through ink


def find_lines(ink: Ink) -> list[list[Segment]]:
    """The lines of writing, from top to bottom, of segments from left to right."""
    lines: list[list[Piece]] = []
    for piece in sorted(pieces(ink), key=lambda piece: piece.box[0]):
        fitting = [
            line for line in lines if _overlap(piece.box[1::2], line[-1].box[1::2]) > OVERLAP
        ]
        if fitting:
            max(fitting, key=lambda line: line[-1].box[2]).append(piece)
        else:
            lines.append([piece])
    lines.sort(key=lambda line: np.mean([sum(piece.rows) for piece in line]))
    return [segments(line, ink) for line in lines]


def pieces(ink: Ink) -> list[Piece]:
    """What can be digits, each with the fragments beside it."""
    alike = peers(ink)
    # What is around a digit, a circle say, is none.
    digits = [peer for peer in alike if not any(_surrounds(peer, other) for other in alike)]
    groups: list[list[Component]] = []
    for digit in sorted(digits, key=lambda component: component.box[0].start):
        above = [group for group in groups if any(_stacked(other, digit) for other in group)]
        groups = [group for group in groups if group not in above]
        groups.append([digit, *(other for group in above for other in group)])
    parts = [
        (_gap(component, digit), component, group)
        for component in ink.components
        for group in groups
        for digit in group
        if component not in digits and _is_fragment(component, digit)
    ]
    taken: set[int] = set()
    for _, component, group in sorted(parts, key=lambda part: part[0]):
        if component.label not in taken:
            taken.add(component.label)
            group.append(component)
    return [reduce(or_, map(_piece, group)) for group in groups]


def peers(ink: Ink) -> list[Component]:
    """What may be a digit by its size, its place and how much it is like strokes."""
    best = ink.best
    return [component for component in ink.components if _is_peer(component, best)]


def segments(line: list[Piece], ink: Ink) -> list[Segment]:
    """All that may be digits in a line of pieces."""
    far = CLOSE * max(piece.height for piece in line)
    atoms: list[Piece] = []
    cut_at: set[int] = set()  # the numbers of atoms before which ink is cut,
    apart: set[int] = set()  # and of those that are too far from the last to belong to it
    whole: set[tuple[int, int]] = set()  # the atoms of a piece that was cut, which need not be
    found: list[Segment] = []
    for piece in line:
        first = len(atoms)
        if atoms and piece.box[0] - atoms[-1].box[2] > far:
            apart.add(first)
        atoms += slices(piece, ink)
        if len(atoms) > first + 1:
            whole.add((first, len(atoms)))
            cut_at.update(range(first + 1, len(atoms)))
            found.append(Segment(first, len(atoms), piece, 0))
    for start in range(len(atoms)):
        some = accumulate(atoms[start : start + MAX_ATOMS], or_)
        for stop, piece in enumerate(some, start + 1):
            if stop > start + 1 and stop - 1 in apart:
                break
            if (start, stop) in whole:
                continue
            if stop == start + 1 or piece.width <= MAX_WIDTH * piece.height:
                found.append(Segment(start, stop, piece, len(cut_at & {start, stop})))
    return found


def slices(piece: Piece, ink: Ink) -> list[Piece]:
    """A piece cut where strokes of two digits may touch: through the least ink."""
    if piece.width < CUT_WIDTH * piece.height:
        return [piece]
    mask = piece.mask(ink)
    least = max(2, round(MIN_SLICE * piece.height))
    profile = ndimage.uniform_filter1d(mask.sum(axis=0).astype(np.float64), 3)
    lowest = ndimage.minimum_filter1d(profile, 2 * (least // 2) + 1)
    columns = np.flatnonzero(profile == lowest)
    columns = columns[(columns >= least) & (columns < piece.width - least)]
    runs = np.split(columns, np.flatnonzero(np.diff(columns) > 1) + 1)
    middles = [int(run[len(run) // 2]) for run in runs if len(run)]
    middles = sorted(sorted(middles, key=lambda column: profile[column])[:CUTS])
    found = []
    first, top, _, _ = piece.box
    for left, right in pairwise([0, *middles, piece.width]):
        if mask[:, left:right].any():
            a, b, c, d = bounds(mask[:, left:right])
            box = (first + left + a, top + b, first + left + c, top + d)
            found.append(piece._replace(box=box))
    return found


def _piece(component: Component) -> Piece:
    return Piece(frozenset([component.label]), component.edges, component.score)


def _is_peer(component: Component, best: Component) -> bool:
    low, high = PEER_HEIGHTS
    return component is best or (
        low <= component.height / best.height <= high
        and component.score >= PEER_SCORE * best.score
        and component.at_border <= max(PEER_BORDER, best.at_border)
    )


def _is_fragment(component: Component, digit: Component) -> bool:
    return (
        component.area >= FRAGMENT_AREA * digit.area
        and component.score >= FRAGMENT_SCORE * digit.score
        and component.at_border <= digit.at_border
        and _gap(component, digit) <= FRAGMENT_GAP * digit.extent
        and not _surrounds(component, digit)
    )


def _surrounds(ring: Component, digit: Component) -> bool:
    """Whether there is space between a digit and a component on all four sides."""
    pairs = zip(ring.box, digit.box, strict=True)
    return all(
        min(b.start - a.start, a.stop - b.stop) >= RING_SPACE * (a.stop - a.start) for a, b in pairs
    )


def _gap(one: Component, other: Component) -> int:
    pairs = zip(one.box, other.box, strict=True)
    return max(0, *(max(a.start - b.stop, b.start - a.stop) for a, b in pairs))


def _stacked(upper: Component, lower: Component) -> bool:
    """Whether two components are one above the other, straight or aslant, as parts of a digit."""
    above, below = upper.box[0], lower.box[0]
    height = max(above.stop, below.stop) - above.start
    beside = _overlap((above.start, above.stop), (below.start, below.stop)) > OVERLAP
    return not beside and _gap(upper, lower) <= STACKED_GAP * height


def _overlap(one: tuple[int, int], other: tuple[int, int]) -> float:
    """What two stretches share, of the shorter."""
    shared = min(one[1], other[1]) - max(one[0], other[0])
    return shared / max(1, min(one[1] - one[0], other[1] - other[0]))
