"""Images made by a program, in MNIST's form: printed digits, and what is no digit.

What people draw is not only what MNIST's writers wrote in 1992: see making/strokes.py.
"""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage
from torch import Tensor

from making import strokes
from making.strokes import DIGITS, SIDE, write
from mnist_cnn.digits.components import bounds
from mnist_cnn.digits.mnist_form import in_mnist_form

Array = NDArray[np.floating[Any]]
Image28 = NDArray[np.uint8]  # (28, 28), ink bright on dark
Random = np.random.Generator

#: Without those that some people write as others write a digit: O, I, l, S, Z, B, b, g, q, β, σ …
LETTERS = "AaCcdEeFfHhJKkLMmNnPpRrTtuVvWwXxYy"
GREEK = "αγδεζηλμνξπρτυφχψωΓΔΛΞΠΣΦΨΩ"
SIGNS = "+×÷=%&@#$?*~^<>{}[]∞∂∇√∑∫§¶←→↑↓♥★"
#: Digits that are none any more when they are mirrored, or turned by a quarter.
MIRRORED, TURNED = (2, 3, 4, 5, 6, 7, 9), (2, 3, 4, 5, 6, 7, 9)
STROKES = 0.6  # share of the digits that are strokes of a pen, the others are printed


def digits(count: int, rng: Random) -> tuple[Tensor, Tensor]:
    """Digits of fonts and of strokes: images (count, 28, 28) uint8, and labels (count,)."""
    labels = rng.integers(0, 10, count)
    images = [
        in_form(write(DIGITS[digit], rng)) if rng.random() < STROKES else written(str(digit), rng)
        for digit in labels
    ]
    return torch.from_numpy(np.stack(images)), torch.from_numpy(labels)


def no_digits(count: int, images: Tensor, labels: Tensor, rng: Random) -> Tensor:
    """Images that show no digit, or two: (count, 28, 28) uint8."""
    digits = images.numpy(), labels.numpy()
    makers = [
        (0.25, lambda: written(LETTERS + GREEK + SIGNS, rng)),
        (0.2, lambda: in_form(write(strokes.SIGNS, rng))),
        (0.15, lambda: turned(*digits, rng)),
        (0.15, lambda: pair(digits[0], rng)),
        (0.1, lambda: in_form(scribble(rng))),
        (0.08, lambda: in_form(blob(rng))),
        (0.07, lambda: in_form(silhouette(rng))),
    ]
    shares = [share for share, _ in makers]
    chosen = rng.choice(len(makers), size=count, p=shares)
    return torch.from_numpy(np.stack([makers[kind][1]() for kind in chosen]))


def in_form(ink: Array) -> Image28:
    """Ink as MNIST has it."""
    left, top, right, bottom = bounds(ink > 0.3)
    return in_mnist_form(ink[top:bottom, left:right].astype(np.float32))


@cache
def fonts() -> list[Path]:
    """The fonts that come with matplotlib and have letters."""
    import matplotlib

    folder = Path(matplotlib.get_data_path()) / "fonts/ttf"
    names = ("DejaVuSans*", "DejaVuSerif*", "STIXGeneral*")
    found = [font for name in names for font in sorted(folder.glob(name + ".ttf"))]
    return [font for font in found if "Display" not in font.name]


def written(characters: str, rng: Random) -> Image28:
    """One of the characters, in some font, as bold and as slanted as chance has it."""
    files = fonts()
    font = ImageFont.truetype(files[rng.integers(len(files))], SIDE * 2 // 3)
    character = characters[rng.integers(len(characters))]
    picture = Image.new("L", (2 * SIDE, 2 * SIDE))
    bold = int(rng.integers(0, 6))
    draw = ImageDraw.Draw(picture)
    place = (SIDE // 2, SIDE // 3)
    draw.text(place, character, 255, font, stroke_width=bold)
    if character == "1" and rng.random() < 0.5:  # without its foot
        left, top, right, bottom = draw.textbbox(place, character, font, stroke_width=bold)
        draw.rectangle((left, bottom - (bottom - top) * 0.16, right, bottom), fill=0)
    angle, shear, wide = rng.uniform(-0.2, 0.2), rng.uniform(-0.3, 0.3), rng.uniform(0.75, 1.3)
    cos, sin = math.cos(angle), math.sin(angle)
    a, b, d, e = cos / wide, sin + shear, -sin / wide, cos
    centre = np.array([SIDE, SIDE])
    c, f = centre - np.array([[a, b], [d, e]]) @ centre
    moved = picture.transform(
        picture.size, Image.Transform.AFFINE, (a, b, c, d, e, f), Image.Resampling.BILINEAR
    )
    ink = np.asarray(moved, dtype=np.float32) / 255
    return in_form(ink) if ink.max() > 0.5 else written(characters, rng)  # not in this font


def turned(images: Image28, labels: NDArray[np.int64], rng: Random) -> Image28:
    """A digit mirrored, or turned by a quarter."""
    while True:
        index = rng.integers(len(images))
        if rng.random() < 0.5 and labels[index] in MIRRORED:
            return np.ascontiguousarray(images[index][:, ::-1])
        if labels[index] in TURNED:
            return np.ascontiguousarray(np.rot90(images[index], rng.choice([1, 3])))


def pair(images: Image28, rng: Random) -> Image28:
    """Two or three digits beside each other, or two above each other, as one."""
    parts = []
    for _ in range(3 if rng.random() < 0.15 else 2):
        image = images[rng.integers(len(images))]
        left, top, right, bottom = bounds(image > 64)
        parts.append(image[top:bottom, left:right])
    if len(parts) == 2 and rng.random() < 0.2:
        parts = [part.T for part in parts]
    stacked = parts[0].shape != images[0].shape and len(parts) == 2 and rng.random() < 0.15
    parts = [part.T for part in parts] if stacked else parts
    height = max(part.shape[0] for part in parts)
    gap = int(rng.integers(-2, 7))
    canvas = np.zeros((height + 4, sum(p.shape[1] for p in parts) + 3 * 8), np.float32)
    at = 4
    for part in parts:
        down = (height - part.shape[0]) // 2 + int(rng.integers(0, 4))
        spot = canvas[down : down + part.shape[0], at : at + part.shape[1]]
        np.maximum(spot, part / 255, out=spot)
        at = max(0, at + part.shape[1] + gap)
    return in_form(canvas.T if stacked else canvas)


def scribble(rng: Random) -> Array:
    """A few curves through random places."""
    picture = Image.new("L", (SIDE, SIDE))
    draw = ImageDraw.Draw(picture)
    for _ in range(rng.integers(1, 5)):
        knots = rng.uniform(10, SIDE - 10, (rng.integers(3, 9), 2))
        t = np.linspace(0, len(knots) - 1, 60)
        if rng.random() < 0.7:
            from scipy.interpolate import CubicSpline

            points = CubicSpline(np.arange(len(knots)), knots)(t)
        else:
            points = knots
        draw.line([tuple(p) for p in points.tolist()], 255, int(rng.integers(3, 14)), "curve")
    return np.asarray(picture, dtype=np.float32) / 255


def blob(rng: Random) -> Array:
    """What is left of a photograph of things: cloudy patches."""
    noise = ndimage.gaussian_filter(rng.normal(size=(SIDE, SIDE)), rng.uniform(3, 18))
    y, x = np.indices((SIDE, SIDE)) / SIDE - 0.5
    inside = (x / rng.uniform(0.2, 0.5)) ** 2 + (y / rng.uniform(0.2, 0.5)) ** 2 < 1
    ink = (noise > np.quantile(noise, rng.uniform(0.2, 0.7))) & inside
    light = ndimage.gaussian_filter(rng.normal(size=(SIDE, SIDE)), rng.uniform(2, 30))
    light = (light - light.min()) / np.ptp(light)
    ink[SIDE // 2, SIDE // 2 : SIDE // 2 + 3] = True  # never nothing
    return (ink * (0.35 + 0.65 * light)).astype(np.float32)


def silhouette(rng: Random) -> Array:
    """A palm with fingers, or something with two equal sides, as clothes have."""
    picture = Image.new("L", (SIDE, SIDE))
    draw = ImageDraw.Draw(picture)
    if rng.random() < 0.6:
        x, y, size = SIDE / 2, SIDE * 0.65, rng.uniform(14, 26)
        draw.ellipse((x - size, y - size, x + size, y + 1.3 * size), fill=255)
        for angle in rng.uniform(-1.6, 1.6, rng.integers(0, 6)):
            far = rng.uniform(1.3, 2.8) * size
            end = (x + far * math.sin(angle), y - far * math.cos(angle))
            draw.line([(x, y), end], 255, int(rng.uniform(8, 14)), "curve")
        draw.line([(x, y), (x + rng.uniform(-30, 30), SIDE)], 255, int(1.4 * size))
        for _ in range(rng.integers(0, 5)):
            draw.line([tuple(p) for p in rng.uniform(30, 100, (2, 2)).tolist()], 60, 2)
    else:
        half = rng.uniform(4, SIDE / 2, (rng.integers(3, 8), 1))
        rows = np.sort(rng.uniform(8, SIDE - 8, half.shape), axis=0)
        right = np.hstack([SIDE / 2 + half, rows])
        left = np.hstack([SIDE / 2 - half, rows])[::-1]
        draw.polygon([tuple(p) for p in np.vstack([right, left]).tolist()], fill=255)
    light = ndimage.gaussian_filter(rng.normal(size=(SIDE, SIDE)), 12)
    light = (light - light.min()) / np.ptp(light)
    ink: Array = np.asarray(picture, dtype=np.float32) / 255
    return (ink * (0.4 + 0.6 * light)).astype(np.float32)
