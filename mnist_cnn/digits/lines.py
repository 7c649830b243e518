"""Which pieces of ink may be digits, in reading order.

A line of writing is cut into atoms: pieces of ink, and slices of a piece that is so wide that
digits may touch in it. A digit is a few atoms in a row. Where it isn't plain which, all that could
be digits are given, and whoever can read chooses (a segmentation lattice, as Y. LeCun et al.,
1998, read the numbers on cheques).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import reduce
from itertools import pairwise
from operator import or_

import numpy as np
from scipy.signal import find_peaks

from mnist_cnn.digits.components import Ink, Piece, bounds

# Beside the component that is most like a digit.
CLEAR = 0.25  # of its score, at least: of what is no dust
LARGE = 0.5  # of its height, at least: of another digit, since numbers are written in one size

# What belongs to a digit; shares are of its height.
FRAGMENT_GAP = 0.3  # at most, to what is small: the stroke of a 5 may be so far off
STACKED_GAP = 0.1  # at most, between two halves of a digit, rather than two lines of writing
PARTS = 3  # large ones, at most, of a digit; if there are more, they are lines of digits
RING_SPACE = 0.05  # of a ring's sides, its stroke and the space to a digit in it, at least
OVERLAP = 0.5  # of the lesser of two heights: both are in one line

# Where it isn't plain what a digit is.
CLOSE = 0.35  # of a line's height: a gap that may be a break in a stroke
CUT_WIDTH = 0.9  # of its height: a piece that is wider may be of several digits
CUTS = 7  # the most places where one is cut
MIN_SLICE = 0.12  # of its height, at either end; between two cuts, half as much
MAX_ATOMS = CUTS + 1  # of a digit


def clear(ink: Ink) -> list[Piece]:
    """The components that are no dust."""
    return [component for component in ink.components if component.score >= CLEAR * ink.score]


def find_pieces(ink: Ink) -> list[Piece]:
    """What can be a digit, or half of one that is broken: large components with what is beside."""
    components = sorted(clear(ink), key=lambda component: -component.height)
    best = max(components, key=lambda component: component.score)
    least = LARGE * best.height
    large = [component for component in components if component.height >= least]
    # What is around a digit, a circle say, is none.
    rings = {ring for ring in large if any(_surrounds(ring, other) for other in large)}
    pieces: list[Piece] = []
    for component in components:
        if component in rings:
            continue
        may = component.height < least or len(large) <= PARTS
        digit = [piece for piece in pieces if may and _belongs(component, piece, least)]
        pieces = [piece for piece in pieces if piece not in digit]
        pieces.append(reduce(or_, digit, component))
    return [piece for piece in pieces if piece.height >= least]


def find_lines(pieces: list[Piece]) -> list[list[Piece]]:
    """The lines of writing, from top to bottom, of pieces from left to right."""
    lines: list[list[Piece]] = []
    for piece in sorted(pieces, key=lambda piece: piece.box[0]):
        fitting = [line for line in lines if _in_one_line(piece, line[-1])]
        if fitting:
            max(fitting, key=lambda line: line[-1].box[2]).append(piece)
        else:
            lines.append([piece])
    return sorted(lines, key=lambda line: np.mean([piece.box[1::2] for piece in line]))


def segments(line: list[Piece], ink: Ink) -> Iterator[tuple[int, int, Piece, int]]:
    """All that may be digits in a line of pieces.

    Yields:
        The first of its atoms, counted in the line; the one after its last; their ink; how many of
        its two sides are cuts through ink.
    """
    far = CLOSE * max(piece.height for piece in line)
    atoms = [atom for piece in line for atom in slices(piece, ink)]
    is_cut = [False, *(bool(one.labels & next_.labels) for one, next_ in pairwise(atoms)), False]
    for start, piece in enumerate(atoms):
        for stop, atom in enumerate(atoms[start : start + MAX_ATOMS], start + 1):
            if atom.box[0] - piece.box[2] > far:
                break
            piece |= atom
            yield start, stop, piece, is_cut[start] + is_cut[stop]


def slices(piece: Piece, ink: Ink) -> list[Piece]:
    """A piece cut where strokes of two digits may touch: through the least ink."""
    if piece.width < CUT_WIDTH * piece.height:
        return [piece]
    mask = ink.mask(piece)
    least = max(2, round(MIN_SLICE * piece.height))
    profile = mask.sum(axis=0)
    valleys, _ = find_peaks(-profile, distance=least / 2)
    valleys = valleys[(valleys >= least) & (valleys < piece.width - least)]
    lowest = sorted(valleys, key=profile.__getitem__)[:CUTS]
    found = []
    first, top, _, _ = piece.box
    for left, right in pairwise([0, *sorted(map(int, lowest)), piece.width]):
        if mask[:, left:right].any():
            a, b, c, d = bounds(mask[:, left:right])
            box = (first + left + a, top + b, first + left + c, top + d)
            found.append(piece._replace(box=box))
    return found


def _belongs(component: Piece, piece: Piece, least: float) -> bool:
    """Whether it is of one digit with a higher piece; what is less than `least` is none alone."""
    small = component.height < least <= piece.height
    return (_is_fragment if small else _is_stacked)(component, piece)


def _in_one_line(one: Piece, other: Piece) -> bool:
    shared = min(one.box[3], other.box[3]) - max(one.box[1], other.box[1])
    return shared > OVERLAP * min(one.height, other.height)


def _is_stacked(lower: Piece, upper: Piece) -> bool:
    """Whether two pieces are one above the other, straight or aslant, as halves of a digit."""
    near = STACKED_GAP * (lower | upper).height
    return not _in_one_line(lower, upper) and _gap(lower, upper) <= near


def _is_fragment(component: Piece, digit: Piece) -> bool:
    """Whether what is small belongs to a digit: that may be broken, or a 5 lack a joint."""
    gap = _gap(component, digit)
    return component.width <= digit.height and gap <= FRAGMENT_GAP * digit.height


def _gap(one: Piece, other: Piece) -> int:
    a, b = one.box, other.box
    return max(0, a[0] - b[2], b[0] - a[2], a[1] - b[3], b[1] - a[3])


def _surrounds(ring: Piece, digit: Piece) -> bool:
    """Whether there is space between a digit and what is around it on all four sides."""
    a, b = ring.box, digit.box
    across, down = min(b[0] - a[0], a[2] - b[2]), min(b[1] - a[1], a[3] - b[3])
    return across >= RING_SPACE * ring.width and down >= RING_SPACE * ring.height
