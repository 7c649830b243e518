"""Digits and signs as strokes of a pen, as people write them where MNIST's writers did not.

A 1 with a long flag or with a foot, a 4 that is closed or has a long stem, a 7 with a bar, 5, 6 and
9 of straight strokes, as on a display; and what is no digit: Greek letters, arrows, small drawings.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy.interpolate import CubicSpline

Points = NDArray[np.float64]  # (N, 2), x to the right and y downwards, the sign's height is 1
SIDE = 120  # pixels of what is drawn
HEIGHT = (50, 80)  # pixels of a sign
SHAKE = 0.035  # of a sign's height, by which a point is elsewhere
PEN = (3, 14)  # pixels

# Each way to write a sign is a text: strokes are separated by "/", a stroke's points are "x,y" in
# hundredths of the height; "~" before them makes it a curve, otherwise it is straight in between.
DIGITS = {
    0: ["~30,0 5,25 5,75 30,100 60,75 60,25 30,0", "~25,0 0,50 25,100 50,50 25,0"],
    1: [
        "20,0 20,100",
        "0,30 35,0 35,100",
        "0,20 30,0 30,100",
        "0,45 45,0 45,100",
        "0,25 22,22 35,5 / 35,0 35,100",
        "0,30 30,0 30,100 / 0,100 60,100",
        "0,20 30,0 30,100 / 10,100 50,100",
    ],
    2: [
        "~0,25 20,2 55,5 62,30 35,65 0,100 / 0,100 70,100",
        "~0,20 30,0 60,20 45,55 10,95 / ~0,92 10,80 25,90 65,98",
        "0,0 60,0 60,50 0,50 0,100 60,100",
        "0,20 30,0 60,20 0,100 65,100",
    ],
    3: [
        "~0,12 30,0 58,20 25,46 / ~25,46 65,70 35,100 0,88",
        "0,0 60,0 25,40 / ~25,40 65,68 35,100 0,90",
        "0,0 60,0 60,100 0,100 / 10,50 60,50",
    ],
    4: [
        "10,0 0,55 70,55 / 50,20 50,100",
        "50,0 0,65 75,65 / 50,0 50,100",
        "45,5 0,38 58,38 / 55,0 55,100",
        "0,0 0,50 60,50 / 60,0 60,100",
        "~25,0 5,55 30,62 65,52 / 58,5 55,100",
    ],
    5: [
        "65,0 12,0 8,42 / ~8,42 40,36 66,65 42,98 0,92",
        "60,0 0,0 0,48 60,48 60,100 0,100",
        "70,0 20,0 12,45 45,42 60,75 30,100 0,92",
        "65,3 10,0 / ~12,0 8,42 55,48 58,85 25,100 0,88",
    ],
    6: [
        "~55,0 18,35 2,75 28,100 58,78 35,52 4,70",
        "~30,0 3,50 5,85 30,100 55,80 40,58 5,65",
        "60,0 0,0 0,100 60,100 60,50 0,50",
        "40,0 0,60 0,100 58,100 58,58 0,58",
        "55,0 15,0 0,55 0,95 50,100 58,60 5,55",
    ],
    7: [
        "0,0 62,0 25,100",
        "0,12 0,0 62,0 25,100",
        "0,0 62,0 25,100 / 12,50 62,50",
        "~0,8 20,0 / ~15,2 60,0 40,45 30,100 / 10,50 60,48",
        "0,0 60,0 60,100",
    ],
    8: [
        "~55,12 28,0 8,22 32,48 58,76 30,100 3,78 30,48 52,25 55,12",
        "~30,0 8,22 30,47 52,22 30,0 / ~30,47 2,74 30,100 60,74 30,47",
        "0,0 60,0 60,100 0,100 0,0 / 0,50 60,50",
        "0,0 55,0 5,100 60,100 0,0",
    ],
    9: [
        "~55,15 28,0 2,25 25,48 55,22 / 55,10 50,100",
        "~55,15 28,0 2,25 25,50 55,25 / ~55,20 50,75 10,100",
        "60,50 0,50 0,0 60,0 60,100 0,100",
        "58,45 0,45 0,0 58,0 58,100",
    ],
}
SIGNS = [
    "~75,5 45,60 15,75 0,50 20,25 45,45 70,90 85,100",  # alpha
    "~75,0 50,45 25,75 5,55 20,28 45,55 80,95",
    "~0,15 12,0 25,25 30,50 / ~60,0 40,45 25,80 20,100 28,75 30,50",  # gamma
    "0,0 30,50 / 60,0 15,100",  # y
    "~55,5 25,0 10,15 45,50 50,80 25,100 0,80 15,55 40,45",  # delta
    "~60,8 30,0 12,20 50,50 58,80 30,100 3,85 8,60 38,45",
    "~0,50 25,25 55,50 85,75 110,50 85,25 55,50 25,75 0,50",  # infinity
    "~0,40 30,10 55,40 80,65 100,35 80,15 55,40 25,70 0,40",
    "~5,0 20,15 65,100 / 35,45 0,100",  # lambda
    "0,10 85,10 / 25,10 20,100 / 65,10 65,100",  # pi
    "~15,20 0,60 15,100 42,65 70,100 85,60 70,20",  # omega
    "0,0 0,100 / ~0,55 25,65 55,50 / 55,0 55,65",  # mu
    "~40,30 5,50 40,75 75,50 40,30 / 40,0 40,100",  # phi
    "~0,10 5,55 40,65 75,55 80,10 / 40,0 40,100",  # psi
    "70,0 0,0 40,50 0,100 70,100",  # sigma
    "40,0 0,100 80,100 40,0",  # a triangle
    "0,100 40,0 80,100 / 15,65 65,65",  # A
    "60,0 0,0 0,100 60,100 / 0,50 50,50",  # E
    "60,0 0,0 0,100 / 0,45 45,45",  # F
    "0,0 0,100 / 65,0 65,100 / 0,50 65,50",  # H
    "0,0 0,100 / 60,0 0,55 60,100",  # K
    "0,100 0,0 40,60 80,0 80,100",  # M
    "0,100 0,0 65,100 65,0",  # N
    "0,100 0,0 / ~0,0 55,10 55,45 0,50",  # P
    "0,100 0,0 / ~0,0 55,10 55,45 0,50 / 10,50 60,100",  # R
    "0,0 80,0 / 40,0 40,100",  # T
    "0,0 25,100 45,30 65,100 90,0",  # W
    "0,0 70,100 / 70,0 0,100",  # X
    "0,0 35,50 70,0 / 35,50 35,100",  # Y
    "~50,30 15,30 0,65 20,100 50,75 / ~55,20 50,80 60,100 75,90",  # a
    "~5,60 55,55 45,25 15,30 5,65 25,100 60,85",  # e
    "0,0 0,100 / ~0,60 25,40 45,60 / 45,60 45,100",  # h
    "0,40 0,100 / ~0,60 20,40 35,60 / 35,60 35,100 / ~35,60 55,40 70,60 / 70,60 70,100",  # m
    "35,0 35,80 / ~35,80 50,100 70,90 / 5,30 65,30",  # t
    "0,55 100,55 / 60,20 100,55 60,90",  # an arrow
    "50,0 50,100 / 15,40 50,0 85,40",
    "0,60 30,100 100,0",  # a tick
    "50,100 50,0 / 0,50 100,50",  # plus
    "0,30 80,30 / 0,70 80,70",  # equals
    "~50,25 20,0 0,35 50,100 100,35 80,0 50,25",  # a heart
    "20,100 50,0 80,100 0,38 100,38 20,100",  # a star
    "0,45 50,0 100,45 / 10,45 10,100 90,100 90,45 / 40,100 40,70 60,70 60,100",  # a house
    "~50,0 0,50 50,100 100,50 50,0 / 32,30 32,42 / 68,30 68,42 / ~25,65 50,82 75,65",  # a face
    "0,0 0,100 120,100 / 5,80 30,40 60,60 90,20 115,30",  # curves of a plot
    "0,0 0,100 120,100 / 5,10 20,60 50,75 80,80 115,82",
    "0,20 25,60 45,0 70,90 95,30 120,70",
    "~50,50 60,40 50,30 35,50 50,75 75,50 50,10 15,50 50,100",  # a spiral
    "30,0 20,100 / 70,0 60,100 / 0,33 90,33 / 0,67 90,67",  # a hash
    "~0,50 20,20 40,50 60,80 80,50 100,20 120,50",  # waves
]


def write(ways: list[str], rng: np.random.Generator) -> NDArray[np.float32]:
    """One of the ways to write a sign, shaken: (SIDE, SIDE), ink 1 on 0."""
    size = rng.uniform(*HEIGHT) * np.array([rng.uniform(0.75, 1.25), 1])
    lean = rng.normal(0, 0.12)
    picture = Image.new("L", (2 * SIDE, 2 * SIDE))  # at twice the size, for smooth edges
    draw, pen = ImageDraw.Draw(picture), 2 * int(rng.integers(*PEN))
    for stroke in ways[rng.integers(len(ways))].split("/"):
        curved = stroke.strip().startswith("~")
        pairs = [point.split(",") for point in stroke.replace("~", "").split()]
        points = np.array(pairs, dtype=float) / 100
        points = points + rng.normal(0, SHAKE, points.shape)
        points[:, 0] += lean * (0.5 - points[:, 1])
        line = curve(points) if curved else points
        places = 2 * (line * size + (SIDE - HEIGHT[1]) / 2)
        draw.line([tuple(place) for place in places.tolist()], 255, pen, "curve")
        for x, y in (places[0], places[-1]):  # a pen's ends are round
            draw.circle((x, y), pen / 2, fill=255)
    small = picture.resize((SIDE, SIDE), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.float32) / np.float32(255)


def curve(points: Points) -> Points:
    """A smooth curve through the points."""
    steps = np.hypot(*np.diff(points, axis=0).T)
    at = np.concatenate([[0], np.cumsum(np.sqrt(steps + 1e-6))])
    smooth: Points = CubicSpline(at, points)(np.linspace(0, at[-1], 60))
    return smooth
