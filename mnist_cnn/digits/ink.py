"""Finding the ink of a digit in a picture: on a clean background, or photographed on paper.

Letters of the shapes: H and W pixels of the picture, h and w of the crop that has the ink.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from mnist_cnn.digits.background import (
    Array,
    estimate_background,
    evenly_lit,
    noise_of,
    otsu,
    shrink,
)
from mnist_cnn.digits.components import (
    EIGHT_CONNECTED,
    Ink,
    bounds,
    digit_components,
    encloses,
    find_card,
    is_sheet,
    label_components,
    ring,
)

WORK_SIDE = 224  # pixels of the longer side at which ink is looked for
MIN_CONTRAST = 0.03  # of the range from black to white; less is no ink
MIN_SCORE = 0.04  # of a photograph's best component; blank paper has 0.02, faint pencil 0.1
CLEAN = 1.5 / 255  # what the pixels of a drawn background differ by at most
LOOKS = 3  # how often a picture is looked at closer

# Which of two polarities, and what is looked at closer.
WHITE = 99  # percentile of the brightness: white paper; a reflection may be brighter
MIN_WHITE = 0.05  # of the range; a picture that is darker all over is not brightened to noise
FLAT_BORDER = 0.7  # of the border's pixels that are alike in a drawing; strokes may touch it
PRIORS = (0.75, 1.25)  # of ink that is as bright as all of the border, as none of it
CARD_EDGE = 20  # 1/20 of a card's longer side is cut off all around: its edge and its shadow
CARD_CONTRAST = 0.2  # of the picture's: less is a card with nothing on it
SMALL = 3  # 1/3 of WORK_SIDE: a digit that is smaller is looked at closer,
CLOSER = 1.5  # if the picture has more than so many times as many pixels a side
FULL_INK = 80  # percentile of the depth of a digit's ink that becomes 1: the middle of its strokes
SOFT_EDGE = 5  # pixels, a square around each of a digit's: a photograph's edges are blurred
RIVAL = 0.5  # of the best score: with less, the other polarity is noise, not a sheet or a hole

# What is ink in a photograph.
MIN_LIGHT = 0.15  # of the range: where paper is darker, dividing by its light would show noise
PAPER = 75  # percentile of the background that is taken for paper in full light
BLUR = 1.0  # pixels, standard deviation: takes out noise that would cut strokes or join specks
NOISE = 2.5  # standard deviations before the blur, which leaves 0.28 of white noise
FAINT = 0.8  # of the threshold between two kinds of ink: the fainter ends of strokes are ink, too
TABLE_EDGE = 7  # pixels, a square around each of what comes in from the border: its blurred edge


class NoInkError(ValueError):
    """There is nothing to see in the picture."""


def find_ink(values: Array, looks: int = LOOKS) -> Array:
    """Tell ink from background.

    Args:
        values: (H, W) in [0, 1].
        looks: How often to look closer, at a small digit or at what a frame encloses.

    Returns:
        (h, w), cropped to the ink: 0 where there is none, 1 in the middle of a stroke.

    Raises:
        NoInkError: If nothing differs from the background by more than noise does.
    """
    small = shrink(values, WORK_SIDE)
    # Half of the brightest, since a thin white line is less than 1 % of its picture.
    white = max(np.percentile(small, WHITE), small.max() / 2, MIN_WHITE)
    small = small / white  # a photograph may be dim
    border = ring(small)
    level = np.median(border)
    flat = np.mean(np.abs(border - level) <= CLEAN) > FLAT_BORDER and noise_of(small) <= CLEAN
    if flat:  # drawn, not photographed: all that is not the border's colour is ink
        inks = [label_components(np.abs(small - level), MIN_CONTRAST, alone=1.0)]
    else:
        small = evenly_lit(small)
        light = float(np.mean(ring(small) > otsu(small)))  # its share of the border
        dark, bright = separate(small, 1), separate(1 - small, -1)
        low, high = PRIORS
        lean = (high - low) * light
        inks = [dark._replace(prior=low + lean), bright._replace(prior=high - lean)]
    inks = [ink for ink in inks if ink.components]
    if not inks or (not flat and max(ink.best.score for ink in inks) < MIN_SCORE):
        raise NoInkError("has no ink: nothing in it differs from its border")
    ink = likeliest(inks)
    scale = max(values.shape) / max(small.shape)
    if looks and (card := find_card(ink)):
        (top, bottom), (left, right) = ((s.start, s.stop) for s in card.box)
        inset = max(2, max(bottom - top, right - left) // CARD_EDGE)
        box = (top + inset, bottom - inset, left + inset, right - inset)
        inner = crop(values, box, scale)
        if np.ptp(inner) > CARD_CONTRAST * np.ptp(values):
            return find_ink(inner, looks - 1)
    mask = np.isin(ink.labels, [component.label for component in digit_components(ink)])
    top, bottom, left, right = bounds(mask)
    size = max(bottom - top, right - left)
    if looks and scale > CLOSER and size < WORK_SIDE / SMALL:
        margin = size // 2 + 1  # shows some background
        box = (top - margin, bottom + margin, left - margin, right + margin)
        return find_ink(crop(values, box, scale), looks - 1)
    strength = np.percentile(ink.depth[mask], FULL_INK)
    near = mask if flat else ndimage.maximum_filter(mask, SOFT_EDGE)
    found = np.where(near, np.clip(ink.depth / strength, 0, 1), 0)[top:bottom, left:right]
    return found.astype(np.float32)


def likeliest(inks: list[Ink]) -> Ink:
    """The polarity with the best component, but no sheet behind strokes, nor a hole in them."""
    inks = sorted(inks, key=lambda ink: -ink.prior * ink.best.score)
    if len(inks) == 2:
        best, other = inks[0].best, inks[1].best
        if other.score > RIVAL * best.score and (
            (encloses(best, other) and is_sheet(best, other))
            or (encloses(other, best) and not is_sheet(other, best))
        ):
            return inks[1]
    return inks[0]


def separate(values: Array, sign: int) -> Ink:
    """Components that are darker than a background whose brightness may vary."""
    background = estimate_background(values)
    depth = background - values
    if sign > 0:  # on paper, half the light makes half the difference
        depth = depth / np.maximum(background, MIN_LIGHT) * np.percentile(background, PAPER)
    noise = noise_of(depth)
    if noise > CLEAN:
        depth = ndimage.gaussian_filter(depth, BLUR)
    floor = max(MIN_CONTRAST, NOISE * noise)
    tail = depth > floor
    if not tail.any():
        return Ink(depth, tail.astype(np.int32), [])
    threshold = max(floor, FAINT * otsu(depth[tail]))
    # Again without what comes in from the border, a table or a shadow, which may be darker.
    labels, _ = ndimage.label(depth > threshold, structure=EIGHT_CONNECTED)
    outside = np.isin(labels, ring(labels)[ring(labels) > 0])
    tail &= ndimage.maximum_filter(outside, TABLE_EDGE) == 0
    found = [(threshold, label_components(depth, threshold))]
    if (
        outside.any()
        and tail.any()
        and (lower := max(floor, FAINT * otsu(depth[tail]))) < threshold
    ):
        found.append((lower, label_components(depth, lower)))
    threshold, ink = max(found, key=lambda pair: (pair[1].components and pair[1].best.score) or 0)
    return ink._replace(depth=np.clip(depth - threshold / 2, 0, None))  # with soft edges


def crop(values: Array, box: tuple[int, int, int, int], scale: float) -> Array:
    """Cut out a box that is given in pixels `scale` times as large."""
    top, bottom, left, right = (max(0, round(edge * scale)) for edge in box)
    return values[top:bottom, left:right]
