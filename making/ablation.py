"""What each step from a picture to its digits is worth: the share that is right without it.

    python -m making.ablation --count 20
    python -m making.ablation --folder photos # with single/…_7.png, multi/…_42.png, none/…

Prints a Markdown table: for each step left out, the share of right answers to made pictures of one
digit and of numbers (tests/support/scenes.py), and to those in a folder: a number is right if all
of its digits are, a picture of none if it is doubted or refused. Takes ten minutes on two cores.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

from benchmarks.records import markdown
from mnist_cnn.checkpoints.classifier import load_classifier
from mnist_cnn.checkpoints.files import BUNDLED
from mnist_cnn.digits.decode import PictureError, open_pictures
from mnist_cnn.digits.find import find_digits
from mnist_cnn.use.reading import Reader
from tests.support import scenes

DIGITS = "mnist_cnn.digits."
#: What is put in the place of a step, by the place's name.
STEPS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "sheets and frames straightened": {f"{DIGITS}find.find_sheets": lambda *_: []},
    "ruled lines taken out": {f"{DIGITS}ink.without_lines": lambda mask: mask},
    "tiny pictures enlarged": {f"{DIGITS}find.TINY": 0},
    "small digits looked at closer": {f"{DIGITS}find.CLOSER": np.inf},
    "what is faint left out": {f"{DIGITS}ink.FAINT": 0.0},
    "uneven light divided out": {
        f"{DIGITS}ink.estimate_background": lambda values: np.full_like(values, np.median(values))
    },
    "colours projected": {f"{DIGITS}grey._one_channel": lambda rgb: rgb.mean(axis=2)},
    "rings left out": {f"{DIGITS}lines._surrounds": lambda *_: False},
    "halves joined": {f"{DIGITS}lines._is_stacked": lambda *_: False},
    "fragments joined": {f"{DIGITS}lines._is_fragment": lambda *_: False},
    "wide pieces cut": {f"{DIGITS}lines.CUT_WIDTH": np.inf},
    "hairlines widened": {f"{DIGITS}mnist_form.HAIRLINE": 0.0},
    "the judge": {"mnist_cnn.use.judge.Judge.forward": lambda _, images: torch.ones(len(images))},
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=20, help="made pictures a row (%(default)s)")
    parser.add_argument("--folder", type=Path, help="labelled pictures")
    args = parser.parse_args()
    sets: dict[str, Callable[[Reader], float]] = {
        "one digit, made": lambda reader: made(scenes.ROWS, args.count, reader),
        "numbers, made": lambda reader: made(scenes.NUMBERS, args.count, reader),
    }
    for kind in ("single", "multi", "none"):
        if args.folder and (files := sorted((args.folder / kind).glob("*.*"))):
            sets[f"{kind} ({len(files)})"] = partial(found, files)
    rows = []
    for step, places in STEPS.items():
        patches = [patch(place, other) for place, other in places.items()]
        for each in patches:
            each.start()
        reader = Reader(load_classifier(BUNDLED)[0]).eval()
        rows.append([step, *(f"{100 * share(reader):.1f} %" for share in sets.values())])
        for each in patches:
            each.stop()
        print(rows[-1], flush=True)
    print(markdown(["without", *sets], rows))


def made(rows: dict[str, Any], count: int, reader: Reader) -> float:
    """The share of made pictures that are read rightly."""
    return float(np.mean([scenes.share_right(scenes.pictures(row, count), reader) for row in rows]))


def found(files: list[Path], reader: Reader) -> float:
    """The share of labelled files that are read rightly."""
    right = 0
    for file in files:
        label = re.search(r"_(\d+)\.\w+$", file.name)
        try:
            (reading,) = reader.read([find_digits(open_pictures(file)[0])])
        except PictureError:
            right += label is None
            continue
        if label is None:
            right += bool(reading.doubt)
        elif len(label[1]) == 1:
            right += str(reading.main.digit) == label[1]
        else:
            right += reading.number == label[1]
    return right / len(files)


if __name__ == "__main__":
    main()
