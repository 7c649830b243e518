"""Finding the ink of a digit in a picture: on a clean ground, or photographed on paper.

Letters of the shapes: H and W pixels of the picture, h and w of the part that has the ink.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

Array = NDArray[np.float32]
Mask = NDArray[np.bool_]

WORK_SIDE = 224  # pixels of the longer side at which ink is looked for
GROUND_SIDE = 56  # pixels of the longer side at which the ground is estimated
GROUND_WINDOW = 0.4  # of the longer side: what is darker than its surroundings and wider is ground
MIN_CONTRAST = 0.03  # of the range from black to white; less is no ink
CLEAN = 1.5 / 255  # what the pixels of a drawn ground differ by at most
LOOKS = 3  # how often a picture is looked at closer
MOST_PARTS = 12  # that are judged; more are specks
EIGHT = np.ones((3, 3))  # neighbours that connect pixels


class NoInkError(ValueError):
    """There is nothing to see in the picture."""


class Part(NamedTuple):
    """A connected piece of what could be ink."""

    label: int  # its number in the labels
    box: tuple[slice, slice]
    area: int  # pixels
    at_border: float  # share of a side of the picture that it covers, at most
    score: float = 1.0  # how much like the strokes of a digit it is


class Ink(NamedTuple):
    """What a picture may have for ink, if it is darker (or lighter) than the ground."""

    depth: Array  # (H, W): how far from the ground, in [0, 1]; noise is cut off
    labels: NDArray[np.int32]  # (H, W): the parts' numbers, 0 for ground
    parts: list[Part]

    @property
    def best(self) -> Part:
        return max(self.parts, key=lambda part: part.score)


def find_ink(values: Array, looks: int = LOOKS) -> Array:
    """Tell ink from ground.

    Args:
        values: (H, W) in [0, 1].
        looks: How often to look closer, at a small digit or at what a frame encloses.

    Returns:
        (h, w), cropped to the ink: 0 where there is none, 1 in the middle of a stroke.

    Raises:
        NoInkError: If nothing differs from the ground by more than noise does.
    """
    small = shrink(values, WORK_SIDE)
    small = small / max(float(np.percentile(small, 99)), 0.05)
    border = ring(small)
    level = np.median(border)
    flat = np.mean(np.abs(border - level) <= CLEAN) > 0.7 and noise_of(small) <= CLEAN
    if flat:  # drawn, not photographed: all that is not the border's colour is ink
        inks = [label_parts(np.abs(small - level), MIN_CONTRAST)]
    else:
        small = evenly_lit(small)
        light = float(np.mean(ring(small) > otsu(small)))  # its share of the border
        inks = [separate(small, 1, 0.75 + light / 2), separate(1 - small, -1, 1.25 - light / 2)]
    inks = [ink for ink in inks if ink.parts]
    if not inks:
        raise NoInkError("has no ink: nothing in it differs from its border")
    ink = likeliest(inks)
    scale = max(values.shape) / max(small.shape)
    if looks and (card := find_card(ink)):
        (top, bottom), (left, right) = ((s.start, s.stop) for s in card.box)
        inset = max(2, max(bottom - top, right - left) // 20)
        box = (top + inset, bottom - inset, left + inset, right - inset)
        inner = crop(values, box, scale)
        if np.ptp(inner) > 0.2 * np.ptp(values):
            return find_ink(inner, looks - 1)
    mask = np.isin(ink.labels, [part.label for part in digit_parts(ink)])
    top, bottom, left, right = bounds(mask)
    size = max(bottom - top, right - left)
    if looks and scale > 1.5 and size < WORK_SIDE / 3:
        margin = size // 2 + 1
        box = (top - margin, bottom + margin, left - margin, right + margin)
        return find_ink(crop(values, box, scale), looks - 1)
    strength = np.percentile(ink.depth[mask], 80)
    near = mask if flat else ndimage.maximum_filter(mask, 5)
    found = np.where(near, np.clip(ink.depth / strength, 0, 1), 0)[top:bottom, left:right]
    return found.astype(np.float32)


def likeliest(inks: list[Ink]) -> Ink:
    """The polarity whose best part is best, but no sheet behind strokes, nor a hole in them."""
    inks = sorted(inks, key=lambda ink: -ink.best.score)
    if len(inks) == 2:
        best, other = inks[0].best, inks[1].best
        likely = other.score / best.score
        if likely > 0.2 and encloses(best, other) and is_sheet(best, other):
            return inks[1]
        if likely > 0.5 and encloses(other, best) and not is_sheet(other, best):
            return inks[1]
    return inks[0]


def is_sheet(part: Part, inner: Part) -> bool:
    """Whether a part is what another is written on, rather than strokes around a hole."""
    return is_solid(part) or (
        part.area > 12 * inner.area and extent(inner.box) > 0.25 * extent(part.box)
    )


def extent(box: tuple[slice, slice]) -> int:
    """The longer side in pixels."""
    return max(side.stop - side.start for side in box)


def is_solid(part: Part) -> bool:
    """Whether a part fills more of its box than strokes do."""
    rows, columns = part.box
    return part.area > 0.65 * (rows.stop - rows.start) * (columns.stop - columns.start)


def encloses(outer: Part, inner: Part) -> bool:
    """Whether a part's box has another's inside."""
    pairs = zip(outer.box, inner.box, strict=True)
    return all(a.start < b.start and b.stop < a.stop for a, b in pairs)


def separate(values: Array, sign: int, prior: float) -> Ink:
    """Parts that are darker than a ground whose brightness may vary."""
    ground = estimate_ground(values)
    depth = ground - values
    if sign > 0:  # on paper, half the light makes half the difference
        depth = depth / np.maximum(ground, 0.15) * np.percentile(ground, 75)
    noise = noise_of(depth)
    if noise > CLEAN:
        depth = ndimage.gaussian_filter(depth, 1.0)
    floor = max(MIN_CONTRAST, 2.5 * noise)
    tail = depth > floor
    if not tail.any():
        return Ink(depth, tail.astype(np.int32), [])
    threshold = max(floor, 0.8 * otsu(depth[tail]))
    # Again without what comes in from the border, a table or a shadow, which may be darker.
    labels, _ = ndimage.label(depth > threshold, structure=EIGHT)
    outside = np.isin(labels, ring(labels)[ring(labels) > 0])
    tail &= ndimage.maximum_filter(outside, 7) == 0
    found = [(threshold, label_parts(depth, threshold, prior))]
    if outside.any() and tail.any() and (lower := max(floor, 0.8 * otsu(depth[tail]))) < threshold:
        found.append((lower, label_parts(depth, lower, prior)))
    threshold, ink = max(found, key=lambda pair: (pair[1].parts and pair[1].best.score) or 0)
    return ink._replace(depth=np.clip(depth - threshold / 2, 0, None))


def label_parts(depth: Array, threshold: float, prior: float = 1) -> Ink:
    """Cut what is deeper than `threshold` into connected parts, and judge each."""
    mask = without_lines(depth > threshold)
    labels, count = ndimage.label(mask, structure=EIGHT)
    if not count:
        return Ink(depth, labels, [])
    areas = np.bincount(labels.ravel())[1:]
    sides = [labels[0], labels[-1], labels[:, 0], labels[:, -1]]
    at_border = np.max(
        [np.bincount(side, minlength=count + 1)[1:] / len(side) for side in sides], axis=0
    )
    boxes = ndimage.find_objects(labels)
    within = areas * (at_border < 0.05)
    least = max(3, 0.03 * (within.max() or areas.max()))
    largest = [index for index in np.argsort(-areas)[:MOST_PARTS] if areas[index] >= least]
    parts = []
    for index in largest:
        part = Part(index + 1, boxes[index], areas[index], at_border[index])
        if count > 1 or prior != 1:
            part = part._replace(score=prior * likeness(part, depth, labels))
        parts.append(part)
    return Ink(depth, labels, parts)


def likeness(part: Part, depth: Array, labels: NDArray[np.int32]) -> float:
    """How much like the strokes of a digit a part is; from 0, or almost, to 1."""
    strokes = labels[part.box] == part.label
    length = max(strokes.shape)
    values = depth[part.box]
    inside = ndimage.distance_transform_edt(np.pad(strokes, 1))[1:-1, 1:-1]
    width = 4 * inside[strokes].mean() - 2  # a stroke's pixels are a quarter of it from its edge
    contrast = values[strokes].mean()
    sharp = 0.0
    if min(strokes.shape) > 1:
        steps = np.hypot(*np.gradient(values))[strokes & (inside < 2)]
        sharp = np.mean(steps > 0.06 * contrast)
    return float(
        (length / max(labels.shape)) ** 0.5
        * np.clip((0.45 - width / length) / 0.2, 0.05, 1)  # strokes, not a blob
        * np.clip(2 * sharp - 0.7, 0.05, 1)  # edges all around, unlike light and shadow
        * contrast
        * (np.clip(1 - part.at_border, 0.05, 0.6) if part.at_border else 1)
    )


def digit_parts(ink: Ink) -> list[Part]:
    """The best part, and those that belong to it: a digit may be broken, or a 5 lack a joint."""
    parts = [part for part in ink.parts if not is_frame(part, ink)] or ink.parts
    best = max(parts, key=lambda part: part.score)
    kept = []
    for part in parts:
        pairs = zip(part.box, best.box, strict=True)
        gaps = [max(0, a.start - b.stop, b.start - a.stop) for a, b in pairs]
        if part is best or (
            part.area >= 0.04 * best.area
            and part.score >= 0.02 * best.score
            and part.at_border <= best.at_border
            and max(gaps) <= 0.3 * extent(best.box)
        ):
            kept.append(part)
    return kept


def is_frame(part: Part, ink: Ink) -> bool:
    """Whether a part runs along all sides of its box and encloses another."""
    mask = ink.labels[part.box] == part.label
    if not hugs(mask, 0.8):
        return False
    return any(encloses(part, other) for other in ink.parts)


def find_card(ink: Ink) -> Part | None:
    """A part that is a sheet with something on it rather than strokes, the largest."""
    part = max(ink.parts, key=lambda part: part.area)
    mask = ink.labels[part.box] == part.label
    solid = is_solid(part) and min(mask.shape) > 16 and hugs(mask, 0.7)
    return part if solid and ndimage.binary_fill_holes(mask).mean() > 0.85 else None


def hugs(mask: Mask, share: float) -> bool:
    """Whether ink runs along `share` of each side of a cropped mask."""
    band = max(1, max(mask.shape) // 16)
    sides = (mask[:band], mask[-band:], mask[:, :band].T, mask[:, -band:].T)
    return min(mask.shape) > 2 * band and all(side.any(axis=0).mean() >= share for side in sides)


def without_lines(mask: Mask) -> Mask:
    """Take out thin straight lines across the picture, as ruled paper has, but not what they cross.

    A line may rise by 1 in 20.
    """
    for transposed in (False, True):
        m = (mask.T if transposed else mask).astype(np.uint8)
        width = m.shape[1]
        if width < 64 or np.mean(m.max(axis=0)) < 0.6:
            continue
        thin = m - opened(m, max(4, round(0.035 * width)), axis=0)
        runs = opened(ndimage.maximum_filter1d(thin, 3, axis=0), width // 5, axis=1) & m
        joined = ndimage.maximum_filter1d(runs, width // 2, axis=1)
        labels, _ = ndimage.label(joined, structure=EIGHT)
        lines = np.zeros_like(m)
        thickest = 0.0
        for label, (rows, columns) in enumerate(ndimage.find_objects(labels), start=1):
            piece = runs[rows, columns] * (labels[rows, columns] == label)
            length = piece.max(axis=0).sum()
            if length >= 0.6 * width and rows.stop - rows.start <= 0.15 * width:
                lines[rows, columns] |= piece
                thickest = max(thickest, piece.sum() / length)
        if thickest:
            # Strokes that cross a line come back: they go on above it and below it.
            grown = ndimage.maximum_filter1d(lines, 3, axis=0) & m
            rest = m & (1 - grown)
            reach = 2 * round(thickest) + 5
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


def evenly_lit(values: Array) -> Array:
    """Divide by the light, if nearly all of the picture follows a smooth surface."""
    small = shrink(values, GROUND_SIDE)
    y, x = (axis / max(1, axis.max()) * 2 - 1 for axis in np.indices(small.shape, np.float32))
    terms = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=-1)
    kept = np.ones(small.shape, bool)
    surface = small
    for _ in range(4):
        surface = terms @ np.linalg.lstsq(terms[kept], small[kept], rcond=None)[0]
        rest = np.abs(small - surface)
        kept = rest <= 2 * np.median(rest) + 0.01
    if np.mean(rest < 0.06) < 0.85:  # the edge of a shadow or a table: see estimate_ground
        return values
    level = float(np.median(small))
    light = np.maximum(surface / max(level, 0.05), 0.2)
    return (values / enlarged(light, values.shape)).astype(np.float32)


def enlarged(values: Array, shape: tuple[int, ...]) -> Array:
    """The inverse of `shrink`, but smooth."""
    size = (shape[1], shape[0])
    picture = Image.fromarray(values.astype(np.float32))
    return np.asarray(picture.resize(size, Image.Resampling.BILINEAR))


def estimate_ground(values: Array) -> Array:
    """What the picture would be without dark features: follows light and shadow, not strokes."""
    small = shrink(values, GROUND_SIDE)
    window = max(3, round(GROUND_WINDOW * max(small.shape)))
    closed = ndimage.grey_closing(ndimage.median_filter(small, 3), size=(window, window))
    smooth = ndimage.gaussian_filter(closed, 1.0)
    return enlarged(smooth, values.shape)


def noise_of(values: Array) -> float:
    """Standard deviation of the noise, from neighbours: most of them are on the same ground."""
    if min(values.shape) < 3:
        return 0.0
    differences = values[:, 1:-1] * 2 - values[:, :-2] - values[:, 2:]
    return float(1.4826 * np.median(np.abs(differences)) / 6**0.5)


def otsu(values: Array) -> float:
    """The threshold that splits values into the two most distinct classes (N. Otsu, 1979)."""
    if np.ptp(values) < 1e-6:
        return float(values[0])
    counts, edges = np.histogram(values, bins=128)
    middles = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)
    above = below[-1] - below
    sums = np.cumsum(counts * middles)
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (sums / below - (sums[-1] - sums) / above) ** 2
    return float(edges[1:][np.argmax(np.nan_to_num(between))])


def ring(values: NDArray[Any]) -> NDArray[Any]:
    """The outermost pixels."""
    return np.concatenate([values[0], values[-1], values[:, 0], values[:, -1]])


def bounds(mask: Mask) -> tuple[int, int, int, int]:
    """Top, bottom, left and right of what is true, as for slices."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1


def crop(values: Array, box: tuple[int, int, int, int], scale: float) -> Array:
    """Cut out a box that is given in pixels `scale` times as large."""
    top, bottom, left, right = (max(0, round(edge * scale)) for edge in box)
    return values[top:bottom, left:right]


def shrink(values: Array, side: int) -> Array:
    """Make the longer side at most `side` pixels long."""
    height, width = values.shape
    scale = side / max(height, width)
    if scale >= 1:
        return values
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(Image.fromarray(values).resize(size, Image.Resampling.BOX))
