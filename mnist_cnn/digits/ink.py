"""Telling ink from background: on a clean background, or photographed on paper.

Letters of the shapes: H and W pixels of the picture.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from mnist_cnn.digits.background import estimate_background, evenly_lit, noise_of, otsu
from mnist_cnn.digits.components import (
    EIGHT_CONNECTED,
    Component,
    Ink,
    encloses,
    label_components,
    ring,
)
from mnist_cnn.digits.paper import SOLID, without_lines
from mnist_cnn.digits.view import Array

MIN_CONTRAST = 0.03  # of the range from black to white; less is no ink
MIN_SCORE = 0.04  # of a photograph's best component; blank paper has 0.02, faint pencil 0.1
CLEAN = 1.5 / 255  # what the pixels of a drawn background differ by at most

# Which of two polarities.
WHITE = 99  # percentile of the brightness: white paper; a reflection may be brighter
MIN_WHITE = 0.05  # of the range; a picture that is darker all over is not brightened to noise
FLAT_BORDER = 0.7  # of the border's pixels that are alike in a drawing; strokes may touch it
TINY_BORDER = 0.35  # the same where a digit fills the picture
PRIORS = (0.75, 1.25)  # of ink that is as bright as all of the border, as none of it
RIVAL = 0.5  # of the best score: with less, the other polarity is noise, not a sheet or a hole
SHEET_AREA = 12  # times as large as what is written on it; a 0 is not, beside its own hole
SHEET_CONTENT = 0.2  # of its longer side, at least; what is smaller is a hole in strokes, or dust

# What is ink in a photograph.
MIN_LIGHT = 0.15  # of the range: where paper is darker, dividing by its light would show noise
PAPER = 75  # percentile of the background that is taken for paper in full light
BLUR = 1.0  # pixels, standard deviation: takes out noise that would cut strokes or join specks
NOISE = 2.5  # standard deviations before the blur, which leaves 0.28 of white noise
CLEARER = 2.0  # times as much like a digit must ink be in a drawing without its faint parts
FAINT = 0.8  # of the threshold between two kinds of ink: the fainter ends of strokes are ink, too
SOFT_EDGE, DRAWN_EDGE = 5, 3  # pixels, a square around each of a digit's: edges are blurred
TABLE_EDGE = 7  # pixels, a square around each of what comes in from the border: its blurred edge


class NoInkError(ValueError):
    """There is nothing to see in the picture."""


def find_ink(values: Array, tiny: bool = False) -> Ink:
    """What is ink in a picture: what is darker than the background, or lighter.

    Args:
        values: (H, W) in [0, 1].
        tiny: Whether it was enlarged: then strokes are as faint as may be.

    Raises:
        NoInkError: If nothing differs from the background by more than noise does.
    """
    # Half of the brightest, since a thin white line is less than 1 % of its picture.
    white = max(np.percentile(values, WHITE), values.max() / 2, MIN_WHITE)
    values = values / white  # a photograph may be dim
    border = ring(values)
    level = np.median(border)
    alike = np.mean(np.abs(border - level) <= CLEAN)
    flat = alike > (TINY_BORDER if tiny else FLAT_BORDER)
    if flat and (tiny or noise_of(values) <= CLEAN):
        # Drawn, not photographed: all that is not the border's colour is ink, dark and light.
        inks = [drawn(np.abs(values - level), tiny)]
        least = 0.0
    else:
        values = evenly_lit(values)
        light = float(np.mean(ring(values) > otsu(values)))  # its share of the border
        low, high = PRIORS
        lean = (high - low) * light
        inks = [
            photographed(values, 1)._replace(prior=low + lean),
            photographed(1 - values, -1)._replace(prior=high - lean),
        ]
        least = MIN_SCORE
    inks = [ink for ink in inks if ink.components and ink.best.score >= least]
    if not inks:
        raise NoInkError("has no ink: nothing in it differs from its border")
    return likeliest(inks)


def likeliest(inks: list[Ink]) -> Ink:
    """The polarity with the best component, but no sheet behind strokes, nor their holes."""
    inks = sorted(inks, key=lambda ink: -ink.prior * ink.best.score)
    if len(inks) == 2:
        best, other = inks[0].best, inks[1].best
        if other.score > RIVAL * best.score and (
            (encloses(best, other) and is_behind(best, other))
            or (encloses(other, best) and not is_behind(other, best))
        ):
            return inks[1]
    return inks[0]


def is_behind(component: Component, inner: Component) -> bool:
    """Whether a component is what another is written on, rather than strokes around a hole."""
    height, width = (side.stop - side.start for side in component.box)
    return component.area > SOLID * height * width or (
        component.area > SHEET_AREA * inner.area and inner.extent > SHEET_CONTENT * component.extent
    )


def drawn(depth: Array, tiny: bool) -> Ink:
    """What is of another colour than a clean background."""
    tail = depth > MIN_CONTRAST
    ink = label_components(depth, without_lines(tail))
    if tiny or not ink.components:
        return ink
    extent = max(component.extent for component in ink.components) / max(depth.shape)
    if CLEARER * ink.best.score >= extent**0.5:  # the most that a score can be
        return ink
    # The faint lines of a page for notes, say, are left out if that makes the rest much clearer.
    clear = label_components(depth, without_lines(depth > FAINT * otsu(depth[tail])))
    if clear.components and clear.best.score > CLEARER * ink.best.score:
        return clear._replace(soft=DRAWN_EDGE)
    return ink


def photographed(values: Array, sign: int) -> Ink:
    """What is darker than a background whose brightness may vary."""
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
    limits = [max(floor, FAINT * otsu(depth[tail]))]
    # Again without what comes in from the border, a table or a shadow, which may be darker.
    labels, _ = ndimage.label(depth > limits[0], structure=EIGHT_CONNECTED)
    outside = np.isin(labels, ring(labels)[ring(labels) > 0])
    tail &= ndimage.maximum_filter(outside, TABLE_EDGE) == 0
    if outside.any() and tail.any():
        limits.append(min(limits[0], max(floor, FAINT * otsu(depth[tail]))))
    found = [(label_components(depth, without_lines(depth > limit)), limit) for limit in limits]
    ink, limit = max(found, key=lambda pair: pair[0].best.score if pair[0].components else 0)
    return ink._replace(depth=np.clip(depth - limit / 2, 0, None), soft=SOFT_EDGE)  # soft edges
