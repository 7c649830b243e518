"""Pictures of digits as people make them: drawn, scanned, photographed. They are made, not found.

Letters of the shapes: H and W pixels. Ink is the share of a pixel that it covers, (H, W) in [0, 1].
"""

from __future__ import annotations

import contextlib
import io
import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage

from mnist_cnn.data import MNISTDataModule
from mnist_cnn.digits.decode import PictureError
from mnist_cnn.digits.find import find_digits
from mnist_cnn.use.reading import Reader

Array = NDArray[np.float64]
Random = np.random.Generator
Scene = Callable[[Array, Random], Image.Image]

#: Strokes of each digit, in two hands: points through which a curve goes, or a broken line if the
#: list begins with None. x to the right and y down, in [0, 1].
# fmt: off
HANDS: list[list[list[list[Any]]]] = [
    [[[(.5, 0), (.15, .25), (.1, .6), (.45, 1), (.85, .7), (.85, .25), (.5, 0)]],
     [[None, (.5, 0), (.5, 1)]],
     [[(.15, .25), (.4, .02), (.75, .12), (.75, .4), (.4, .75), (.1, .98)],
      [None, (.1, .98), (.9, .97)]],
     [[(.15, .12), (.5, 0), (.8, .2), (.65, .42), (.38, .48)],
      [(.38, .48), (.75, .55), (.85, .8), (.5, 1), (.12, .9)]],
     [[None, (.6, 0), (.1, .65), (.9, .65)], [None, (.65, .35), (.62, 1)]],
     [[None, (.8, .02), (.25, .03), (.2, .42)], [(.2, .42), (.6, .38), (.85, .65), (.6, .97),
      (.12, .93)]],
     [[(.7, 0), (.35, .25), (.15, .65), (.4, 1), (.8, .8), (.65, .52), (.2, .62)]],
     [[None, (.1, .05), (.85, .03), (.4, 1)]],
     [[(.75, .12), (.45, 0), (.2, .2), (.5, .46), (.82, .75), (.5, 1), (.15, .78), (.5, .48),
       (.8, .2), (.7, .08)]],
     [[(.8, .2), (.5, 0), (.2, .2), (.3, .45), (.6, .45), (.8, .2)], [(.8, .2), (.78, .6),
      (.7, 1)]]],
    [[[(.5, 0), (.25, .2), (.2, .7), (.5, 1), (.8, .75), (.78, .2), (.5, 0)]],
     [[None, (.3, .25), (.55, 0), (.5, 1)]],
     [[(.15, .2), (.5, 0), (.8, .25), (.6, .6), (.25, .9), (.15, .85), (.35, .82), (.6, .97),
       (.9, .92)]],
     [[None, (.15, .02), (.8, .02), (.45, .42)], [(.45, .42), (.85, .55), (.8, .9), (.4, 1),
      (.1, .88)]],
     [[None, (.2, 0), (.15, .5), (.8, .48)], [None, (.75, 0), (.7, 1)]],
     [[None, (.25, .05), (.22, .45)], [(.22, .45), (.65, .42), (.8, .72), (.5, 1), (.1, .9)],
      [None, (.25, .05), (.8, 0)]],
     [[(.6, 0), (.25, .4), (.2, .8), (.5, 1), (.8, .78), (.55, .55), (.22, .75)]],
     [[None, (.1, .05), (.85, .03), (.4, 1)], [None, (.3, .5), (.75, .48)]],
     [[(.5, 0), (.25, .22), (.5, .46), (.75, .22), (.5, 0)],
      [(.5, .46), (.15, .75), (.5, 1), (.85, .75), (.5, .46)]],
     [[(.5, 0), (.22, .25), (.45, .5), (.78, .25), (.5, 0)], [(.78, .25), (.75, .7), (.4, 1),
      (.2, .92)]]],
]
# fmt: on
INKS = (
    (0.05, 0.05, 0.08),
    (0.1, 0.15, 0.5),
    (0.6, 0.08, 0.1),
    (0.3, 0.3, 0.32),
    (0.05, 0.35, 0.15),
)
SIZE = (480, 360)  # W and H of the pictures of `ROWS`
PEN = 0.09  # of the digit's height


def handwritten(digit: int, rng: Random, size: tuple[int, int], pen: float) -> Array:
    """Draw a digit somewhere in a picture, slanted and wobbling as chance has it.

    Args:
        digit: 0 to 9.
        rng: Where chance comes from.
        size: W and H of the picture.
        pen: Width of the strokes, in heights of the digit; at least a pixel is drawn.

    Returns:
        (H, W) ink.
    """
    width, height = size
    tall = rng.uniform(0.4, 0.7) * min(size)
    centre = [rng.uniform(0.6 * tall, side - 0.6 * tall) for side in size]
    squeeze, slant = rng.uniform(0.55, 0.85), rng.uniform(-0.25, 0.25)
    phases, wobble = rng.uniform(0, 2 * math.pi, 4), rng.uniform(0, 0.02)
    sharp = 2  # pixels drawn for one
    picture = Image.new("L", (width * sharp, height * sharp))
    draw = ImageDraw.Draw(picture)
    for stroke in HANDS[rng.integers(len(HANDS))][digit]:
        points = _broken(stroke[1:]) if stroke[0] is None else _curve(stroke)
        x, y = (points[:, 0] - 0.5) * squeeze, points[:, 1] - 0.5
        x, y = (
            x + wobble * (np.sin(5 * y + phases[0]) + np.sin(9 * x + phases[1])) - slant * y,
            y + wobble * (np.sin(6 * x + phases[2]) + np.sin(8 * y + phases[3])),
        )
        points = (np.stack([x, y], axis=1) * tall + centre) * sharp
        wide = max(1, round(pen * tall * sharp))
        draw.line([tuple(point) for point in points.tolist()], fill=255, width=wide, joint="curve")
        if wide > 3:
            for px, py in (points[0], points[-1]):
                draw.circle((px, py), wide / 2, fill=255)
    return np.asarray(picture.resize(size, Image.Resampling.BOX), dtype=np.float64) / 255


def _curve(points: list[tuple[float, float]]) -> Array:
    """A Catmull-Rom curve through points."""
    p = np.array(points)
    p = np.vstack([2 * p[0] - p[1], p, 2 * p[-1] - p[-2]])
    t = np.linspace(0, 1, 16)[:, None]
    pieces = [
        (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)
        / 2
        for a, b, c, d in zip(p, p[1:], p[2:], p[3:], strict=False)
    ]
    return np.vstack(pieces)


def _broken(points: list[tuple[float, float]]) -> Array:
    p = np.array(points)
    t = np.linspace(0, 1, 16)[:, None]
    return np.vstack([a * (1 - t) + b * t for a, b in itertools.pairwise(p)])


def drawn(ink: Array, background: Any = (1, 1, 1), colour: Any = (0, 0, 0)) -> Image.Image:
    """Flat colours, as a drawing program has them."""
    share = ink[..., None]
    return Image.fromarray(_bytes(np.array(background) * (1 - share) + np.array(colour) * share))


def photographed(
    ink: Array,
    rng: Random,
    *,
    colour: Any = None,
    lines: Array | None = None,
    paper: Array | None = None,
    shadow: float = 0,
    vignette: float = 0,
    exposure: float = 1,
    noise: float = 0.02,
) -> Image.Image:
    """Ink on paper, lit from one side, out of focus, with noise, saved as JPEG.

    Args:
        ink: (H, W).
        rng: Where chance comes from.
        colour: Of the ink; one of `INKS` by default.
        lines: (H, W) share of a pixel covered by the lines of ruled paper.
        paper: (H, W) share of a pixel that is paper; the rest is a table. All of it by default.
        shadow: Part of the light that a shadow over half of the picture takes away.
        vignette: Part of the light that is missing in the corners.
        exposure: Brightness of the whole.
        noise: Standard deviation, of the range from black to white.
    """
    height, width = ink.shape
    background = np.array([1, 0.98, 0.94]) * rng.uniform(0.8, 0.97)
    picture = background * (
        1 + 0.02 * _texture(ink.shape, rng, 3) + 0.01 * _texture(ink.shape, rng, 25)
    )
    if lines is not None:
        picture += lines[..., None] * (np.array([0.5, 0.6, 0.85]) - picture)
    density = 0.93 * np.clip(1 + 0.12 * _texture(ink.shape, rng, 4), 0.6, 1)
    colour = np.array(INKS[rng.integers(len(INKS))] if colour is None else colour)
    picture += ink[..., None] * density * (colour - picture)
    if paper is not None:
        wood = np.array([0.4, 0.26, 0.15]) * (1 + 0.15 * _texture(ink.shape, rng, 20))
        picture = wood + paper[..., None] * (picture - wood)
    y, x = (axis / side - 0.5 for axis, side in zip(np.indices(ink.shape), ink.shape, strict=True))
    angle = rng.uniform(0, 2 * math.pi)
    along = np.cos(angle) * x + np.sin(angle) * y
    light = (
        exposure * (1 - rng.uniform(0.1, 0.4) * (along + 0.5)) * (1 - vignette * 2 * (x**2 + y**2))
    )
    light *= 1 - shadow / (1 + np.exp((along - rng.uniform(-0.2, 0.2)) / rng.uniform(0.005, 0.05)))
    picture = ndimage.gaussian_filter(picture * light[..., None], (1, 1, 0))
    picture += noise * rng.normal(size=(height, width, 1))
    return jpeg(picture, 80)


def blackboard(ink: Array, rng: Random) -> Image.Image:
    """Chalk."""
    background = np.array([0.12, 0.22, 0.17]) * (1 + 0.15 * _texture(ink.shape, rng, 60))
    chalk = (ink * np.clip(0.75 + 0.25 * _texture(ink.shape, rng, 2)[..., 0], 0, 1))[..., None]
    picture = background * (1 - chalk) + 0.85 * chalk
    picture = picture * np.linspace(1, 0.6, ink.shape[1])[None, :, None]
    return jpeg(picture + 0.02 * rng.normal(size=picture.shape), 75)


def ruled(shape: tuple[int, ...], rng: Random, pitch: float, checked: bool = False) -> Array:
    """Lines two pixels wide, up to 2° askew."""
    y, x = np.indices(shape)
    slope, start = math.tan(math.radians(rng.uniform(-2, 2))), rng.uniform(0, pitch)
    across = [y + slope * x] + ([x - slope * y] if checked else [])
    lines = [np.clip(1.5 - np.abs((a + start) % pitch - pitch / 2), 0, 1) for a in across]
    return np.max(lines, axis=0)


def sheet(shape: tuple[int, ...], rng: Random) -> Array:
    """Paper that lies askew on a table and covers two thirds of the picture."""
    height, width = shape
    corners = np.array([(0.12, 0.1), (0.88, 0.1), (0.88, 0.9), (0.12, 0.9)])
    corners = (corners + rng.uniform(-0.05, 0.05, (4, 2))) * (width, height)
    picture = Image.new("L", (width, height))
    points = [tuple(corner) for corner in corners.tolist()]
    ImageDraw.Draw(picture).polygon(points, fill=255)
    return np.asarray(picture, dtype=np.float64) / 255


def jpeg(picture: Array, quality: int) -> Image.Image:
    """What is left of (H, W, 3) values in [0, 1] after saving."""
    file = io.BytesIO()
    Image.fromarray(_bytes(picture)).save(file, "JPEG", quality=quality)
    return Image.open(file)


def _texture(shape: tuple[int, ...], rng: Random, grain: float) -> Array:
    """Smooth noise of variance 1, (H, W, 1)."""
    height, width = shape
    coarse = rng.normal(size=(int(height / grain) + 2, int(width / grain) + 2)).astype(np.float32)
    fine = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))
    return ((fine - fine.mean()) / fine.std())[..., None].astype(np.float64)


def _bytes(values: Array) -> NDArray[np.uint8]:
    return np.clip(values * 255 + 0.5, 0, 255).astype(np.uint8)


def on_a_table(ink: Array, rng: Random) -> Image.Image:
    """A photograph of a whole sheet, the digit at half its size."""
    small = np.asarray(Image.fromarray(ink.astype(np.float32)).reduce(2), dtype=np.float64)
    ink = np.pad(small, [(side // 2, side - side // 2) for side in small.shape])
    return photographed(ink, rng, paper=sheet(ink.shape, rng))


def transparent(ink: Array, rng: Random) -> Image.Image:
    """One colour, and how opaque it is."""
    colour = np.broadcast_to(rng.integers(0, 256, 3), (*ink.shape, 3))
    return Image.fromarray(np.dstack([colour, 255 * ink]).astype(np.uint8))


def any_colours(ink: Array, rng: Random) -> Image.Image:
    """Two colours that differ."""
    while True:
        background, colour = rng.uniform(0, 1, (2, 3))
        if np.linalg.norm(background - colour) > 0.4:
            return drawn(ink, background, colour)


def with_shadow(ink: Array, rng: Random) -> Image.Image:
    """A photograph with the shadow of a hand or a telephone."""
    return photographed(ink, rng, shadow=rng.uniform(0.2, 0.5))


def on_ruled_paper(ink: Array, rng: Random) -> Image.Image:
    """A photograph of ruled paper."""
    return photographed(ink, rng, lines=ruled(ink.shape, rng, rng.uniform(30, 60)))


def on_checked_paper(ink: Array, rng: Random) -> Image.Image:
    """A photograph of checked paper."""
    lines = ruled(ink.shape, rng, rng.uniform(25, 50), checked=True)
    return photographed(ink, rng, lines=lines)


def black_lines(ink: Array, rng: Random) -> Image.Image:
    """Lines as black as the ink."""
    return drawn(np.maximum(ink, ruled(ink.shape, rng, rng.uniform(50, 90))))


def on_black_checks(ink: Array, rng: Random) -> Image.Image:
    """Checks as black as the ink, with the digit near a side, so that a line's one end is short."""
    across = np.flatnonzero(ink.any(axis=0))
    aside = (10 - across[0], ink.shape[1] - 10 - across[-1])[int(rng.integers(2))]
    ink = np.roll(ink, aside, axis=1)
    return drawn(np.maximum(ink, ruled(ink.shape, rng, rng.uniform(40, 70), checked=True)))


def in_boxes(ink: Array, rng: Random) -> Image.Image:
    """A form with a box for each digit."""
    edges = np.flatnonzero(np.diff(np.pad(ink.any(axis=0), 1).astype(int))).reshape(-1, 2)
    line, space = int(rng.integers(2, 7)), int(rng.integers(20, 40))
    width = 2 * space + max(right - left for left, right in edges)
    boxes = []
    for left, right in edges:
        digit = np.zeros((ink.shape[0], width))
        digit[:, (width - right + left) // 2 :][:, : right - left] = ink[:, left:right]
        digit[:line], digit[-line:], digit[:, :line], digit[:, -line:] = 1, 1, 1, 1
        boxes.append(np.pad(digit, space))
    return drawn(np.hstack(boxes))


def in_frame(ink: Array, rng: Random) -> Image.Image:
    """A form with a box for the digit."""
    framed = ink.copy()
    framed[:3], framed[-3:], framed[:, :3], framed[:, -3:] = 1, 1, 1, 1
    return drawn(np.pad(framed, 12))


def tilted(ink: Array, rng: Random) -> Image.Image:
    """A photograph of a sheet that lies on a table turned by up to 25°."""
    angle = rng.uniform(-25, 25)
    both = [Image.fromarray(np.pad(plane, 20).astype(np.float32)) for plane in (ink, 0 * ink + 1)]
    turned = [np.asarray(plane.rotate(angle, Image.Resampling.BICUBIC, True)) for plane in both]
    ink, paper = (np.pad(plane, 40).astype(np.float64).clip(0, 1) for plane in turned)
    return photographed(ink, rng, paper=paper)


def broken(ink: Array, rng: Random) -> Image.Image:
    """A stroke of white through the digit, in any direction, as wide as half a pen."""
    y, x = np.indices(ink.shape)
    rows, columns = np.nonzero(ink > 0.5)
    angle, tall = rng.uniform(0, math.pi), np.ptp(rows)
    off = (x - columns.mean()) * math.cos(angle) + (y - rows.mean()) * math.sin(angle)
    off -= rng.uniform(-0.2, 0.2) * tall
    return drawn(np.where(np.abs(off) < PEN * tall / 4, 0, ink))


def on_coloured_ground(ink: Array, rng: Random) -> Image.Image:
    """Any dark ink on a ground that goes from one bright colour to another."""
    one, other = rng.uniform(0.35, 0.95, (2, 3))
    y, x = (axis / side for axis, side in zip(np.indices(ink.shape), ink.shape, strict=True))
    angle = rng.uniform(0, 2 * math.pi)
    share = (0.5 + 0.5 * np.cos(angle) * (2 * x - 1) + 0.5 * np.sin(angle) * (2 * y - 1)) / 1.5
    ground = one + share.clip(0, 1)[..., None] * (other - one)
    picture = ground + ink[..., None] * (rng.uniform(0, 0.25, 3) - ground)
    return jpeg(picture + 0.01 * rng.normal(size=picture.shape), 85)


def on_checked_page(ink: Array, rng: Random) -> Image.Image:
    """Thin strokes on a page with faint lines, as programs for notes have them."""
    pitch = int(rng.integers(14, 34))
    page = np.ones((*ink.shape, 3))
    page[::pitch], page[:, ::pitch] = 0.88, 0.88
    colour = rng.uniform(0, 0.4, 3)
    return Image.fromarray(_bytes(page + ink[..., None] * (colour - page)))


def screenshot(ink: Array, rng: Random) -> Image.Image:
    """A window with a title, buttons, and the digit on its canvas."""
    height, width = ink.shape
    window = Image.new("RGB", (width + 40, height + 110), (238, 238, 238))
    draw = ImageDraw.Draw(window)
    draw.rectangle((0, 0, window.width, 30), fill=(40, 70, 130) if rng.random() < 0.5 else "white")
    draw.text((12, 9), "Untitled - Drawing", fill="black")
    for left in range(20, width - 60, 110):
        draw.rectangle((left, height + 68, left + 90, height + 98), "gainsboro", "gray")
        draw.text((left + 20, height + 77), "Button", fill="black")
    window.paste(drawn(ink if rng.random() < 0.5 else 1 - ink), (20, 50))
    draw.rectangle((19, 49, width + 20, height + 50), outline="gray")
    return window


def shrunk(ink: Array, side: int) -> Image.Image:
    """A picture of so few pixels, which the digit fills."""
    rows, columns = np.nonzero(ink > 0.5)
    ink = ink[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    longer = max(ink.shape)
    missing = [longer * 1.15 - length for length in ink.shape]
    ink = np.pad(ink, [(int(pixels / 2), int(pixels / 2)) for pixels in missing])
    return drawn(ink).resize((side, side), Image.Resampling.BOX)


def thumbnail(ink: Array, rng: Random, side: int) -> Image.Image:
    """A photograph, cut to the digit and shrunk to as many pixels as MNIST's."""
    rows, columns = np.nonzero(ink > 0.5)
    reach = round(0.7 * np.ptp(rows))
    whole = photographed(np.pad(ink, reach), rng)  # the crop may reach over the edge
    left, top = (int(each.min() + each.max()) // 2 for each in (columns, rows))
    crop = whole.crop((left, top, left + 2 * reach, top + 2 * reach))
    return crop.resize((side, side), Image.Resampling.BOX)


def circled(ink: Array, rng: Random) -> Image.Image:
    """A ring around the digit, as people answer a question."""
    rows, columns = np.nonzero(ink > 0.5)
    reach = rng.uniform(0.75, 0.9) * np.ptp(rows)
    picture = drawn(np.pad(ink, 100))
    x, y = columns.mean() + 100, rows.mean() + 100
    ring = (x - reach, y - reach, x + reach, y + reach)
    ImageDraw.Draw(picture).ellipse(ring, outline="black", width=6)
    return picture


#: What each row of the table shows: pen, and how the picture comes about.
ROWS: dict[str, tuple[float, Scene]] = {
    "black on white": (PEN, lambda ink, rng: drawn(ink)),
    "white on black": (PEN, lambda ink, rng: drawn(1 - ink)),
    "hairline, one pixel wide": (0, lambda ink, rng: drawn(ink)),
    "felt pen, a quarter of the height": (0.24, lambda ink, rng: drawn(ink)),
    "any two colours": (PEN, any_colours),
    "any colour on transparent": (PEN, transparent),
    "1 bit": (PEN, lambda ink, rng: Image.fromarray(ink < 0.5)),
    "with a frame": (PEN, in_frame),
    "on black ruled lines": (PEN, black_lines),
    "felt pen on black checks, near a side": (0.12, on_black_checks),
    "photograph": (PEN, photographed),
    "photograph, thin pen": (0.03, photographed),
    "photograph, half in shadow": (PEN, with_shadow),
    "photograph, dark corners": (PEN, lambda ink, rng: photographed(ink, rng, vignette=0.7)),
    "photograph, dim and noisy": (
        PEN,
        lambda ink, rng: photographed(ink, rng, exposure=0.35, noise=0.04),
    ),
    "photograph, pencil": (
        0.05,
        lambda ink, rng: photographed(0.6 * ink, rng, colour=(0.35, 0.35, 0.37)),
    ),
    "photograph, ruled paper": (PEN, on_ruled_paper),
    "photograph, checked paper": (PEN, on_checked_paper),
    "photograph of a sheet on a table": (PEN, on_a_table),
    "blackboard": (PEN, blackboard),
    "photograph of a sheet, tilted up to 25°": (PEN, tilted),
    "one thin line": (0.025, lambda ink, rng: drawn(ink)),
    "broken by a white line": (PEN, broken),
    "coloured ground, uneven light": (PEN, on_coloured_ground),
    "checked page of a program for notes": (0.04, on_checked_page),
    "screenshot of a drawing program": (PEN, screenshot),
    "circled": (PEN, circled),
    "photograph, 28 × 28 pixels": (PEN, lambda ink, rng: thumbnail(ink, rng, 28)),
    "photograph, 20 × 20 pixels": (PEN, lambda ink, rng: thumbnail(ink, rng, 20)),
    "12 × 12 pixels": (PEN, lambda ink, rng: shrunk(ink, 12)),
    "8 × 8 pixels": (PEN, lambda ink, rng: shrunk(ink, 8)),
}


#: The same of numbers: how many digits.
NUMBERS: dict[str, tuple[int, Scene]] = {
    "two digits": (2, lambda ink, rng: drawn(ink)),
    "four digits": (4, lambda ink, rng: drawn(ink)),
    "ten digits": (10, lambda ink, rng: drawn(ink)),
    "four digits, photograph": (4, photographed),
    "five digits, each in a box": (5, in_boxes),
}


def pictures(row: str, count: int, seed: int = 0) -> Iterator[tuple[Image.Image, str]]:
    """Pictures of a row of the table, with the number that each shows."""
    rng = np.random.default_rng(seed)
    for index in range(count):
        if row in NUMBERS:
            digits, scene = NUMBERS[row]
            number = [int(digit) for digit in rng.integers(0, 10, digits)]
            yield scene(side_by_side(number, rng), rng), "".join(map(str, number))
        else:
            pen, scene = ROWS[row]
            yield scene(handwritten(index % 10, rng, SIZE, pen), rng), str(index % 10)


def side_by_side(number: list[int], rng: Random) -> Array:
    """The ink of several digits in a row, with space between them as people leave it."""
    height = 240
    columns = [np.zeros((height, 60))]
    for digit in number:
        ink = handwritten(digit, rng, (200, height), PEN)
        rows, across = (np.flatnonzero(ink.any(axis=axis)) for axis in (1, 0))
        ink = np.roll(ink, height // 2 - int(rows.mean()) + int(rng.integers(-9, 10)), axis=0)
        gap = np.zeros((height, int(rng.integers(12, 40))))
        columns += [ink[:, across[0] : across[-1] + 1], gap]
    return np.hstack([*columns, np.zeros((height, 60))])


def enlarged(data: MNISTDataModule, count: int, seed: int = 0) -> Iterator[tuple[Image.Image, str]]:
    """MNIST's test digits inverted, enlarged 7 times, off centre on white."""
    rng = np.random.default_rng(seed)
    for image, label in zip(
        data.test_set.images[:count], data.test_set.labels[:count], strict=True
    ):
        digit = Image.fromarray(255 - image.numpy()).resize((196, 196), Image.Resampling.BICUBIC)
        picture = Image.new("L", (400, 300), 255)
        picture.paste(digit, (int(rng.integers(0, 204)), int(rng.integers(0, 104))))
        yield picture, str(int(label))


def share_right(pictures: Iterable[tuple[Image.Image, str]], reader: Reader) -> float:
    """The share of pictures whose number is read; one that cannot be used counts as wrong."""
    right = count = 0
    for picture, number in pictures:
        count += 1
        with contextlib.suppress(PictureError):
            (reading,) = reader.read([find_digits(picture)])
            # That it is doubted is said beside the digit.
            digits = reading.number or str(reading.main.digit)
            right += digits == number
    return right / count
