"""Which digits a picture shows, and how much that is to be doubted.

Letters of the shapes: N images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from mnist_cnn.digits.find import Candidate, likeliest
from mnist_cnn.digits.view import Box
from mnist_cnn.use.classifier import Classifier, Probabilities
from mnist_cnn.use.judge import Judge

#: Less likely than this, what a picture shows is no digit.
IS_DIGIT = 0.7
#: Beside a digit, in its line, most is one: only what is less likely than this is none.
BESIDE = 0.25
#: The logarithm of how likely it is that digits touch at a place where they can be cut.
CUT = -1.5
#: Nothing is less likely a digit: else what is none would be cut until all parts look like some.
UNLIKELY = 0.01
#: Surer than this at the first look, a digit is not looked at again over shifts.
PLAIN = 0.99
#: Less sure than this, another digit is nearly as likely.
SURE = 0.5
NO_DIGIT = "does not look like a digit"
NOT_ALL = "not all of it looks like digits"


class Digit(NamedTuple):
    """A digit that was read."""

    candidate: Candidate
    probabilities: list[float]  # of the ten
    is_digit: float  # how likely it is one at all

    @property
    def digit(self) -> int:
        return max(range(len(self.probabilities)), key=self.probabilities.__getitem__)

    @property
    def confidence(self) -> float:
        return self.probabilities[self.digit]

    @property
    def box(self) -> Box:
        """Left, top, right, bottom, in pixels of the picture."""
        return self.candidate.box


class Reading(NamedTuple):
    """What a picture shows."""

    digits: list[Digit]  # in reading order, at least one
    main: Digit  # the one that is most like ink
    doubt: str = ""  # why the answer is to be doubted

    @property
    def number(self) -> str:
        """The digits in a row; empty where none was seen."""
        return "" if self.doubt == NO_DIGIT else "".join(str(digit.digit) for digit in self.digits)


class Reader(nn.Module):
    """Reads candidates of pictures.

    Args:
        model: The classifier.
        is_mnist: Whether its classes are digits; if they are others, a picture shows one of them,
            and nothing says whether it is one.
        test_shifts: Of the classifier; as it says by default.
    """

    def __init__(
        self, model: Classifier, is_mnist: bool = True, test_shifts: int | None = None
    ) -> None:
        super().__init__()
        self.classify = Probabilities(model)
        if test_shifts is not None:
            self.classify.test_shifts = test_shifts
        self.judge = Judge() if is_mnist else None
        self.to(memory_format=torch.channels_last)  # on a CPU convolutions take a quarter less time

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return next(self.parameters()).device

    def read(self, pictures: Sequence[Sequence[Candidate]]) -> list[Reading]:
        """What each of some pictures shows, each given by its candidates, at least one."""
        if self.judge is None:
            pictures = [
                [replace(likeliest(candidates), start=0, stop=1, cuts=0)] for candidates in pictures
            ]
        uncut = self._look([[c for c in several if not c.cuts] for several in pictures])
        cuts = [
            [] if is_clear(digits) else [c for c in several if c.cuts]
            for several, digits in zip(pictures, uncut, strict=True)
        ]
        found = [chosen(a + b) for a, b in zip(uncut, self._look(cuts), strict=True)]
        if self.classify.test_shifts:
            found = self._look_closer(found)
        return [reading(digits) for digits in found]

    @torch.inference_mode()
    def _look(self, pictures: list[list[Candidate]]) -> list[list[Digit]]:
        candidates = [candidate for several in pictures for candidate in several]
        if not candidates:
            return [[] for _ in pictures]
        images = self._images(candidates)
        classes = self.classify.over_shifts(images, 0)
        are_digits = self.judge(images) if self.judge else classes.new_ones(len(images))
        answers = zip(
            candidates, classes.float().tolist(), are_digits.float().tolist(), strict=True
        )
        return [[Digit(*next(answers)) for _ in several] for several in pictures]

    @torch.inference_mode()
    def _look_closer(self, pictures: list[list[Digit]]) -> list[list[Digit]]:
        """The same digits, those that were not plain with their probabilities over shifts."""
        unsure = [digit for digits in pictures for digit in digits if digit.confidence < PLAIN]
        if not unsure:
            return pictures
        classes = self.classify(self._images([digit.candidate for digit in unsure]))
        answers = iter(classes.float().tolist())
        return [
            [d._replace(probabilities=next(answers)) if d.confidence < PLAIN else d for d in digits]
            for digits in pictures
        ]

    def _images(self, candidates: list[Candidate]) -> Tensor:  # (N, 28, 28) uint8
        return torch.from_numpy(np.stack([each.image for each in candidates])).to(self.device)


def lines(digits: Sequence[Digit]) -> list[list[Digit]]:
    """What may be digits, line by line."""
    in_order = sorted(digits, key=lambda digit: digit.candidate.line)
    return [list(line) for _, line in groupby(in_order, key=lambda digit: digit.candidate.line)]


def is_clear(uncut: Sequence[Digit]) -> bool:
    """Whether no cut can make anything more likely: each costs `CUT`, and no digit gives more."""
    return all(best_path(line)[0] >= CUT for line in lines(uncut))


def chosen(digits: Sequence[Digit]) -> list[Digit]:
    """Of all that may be digits, what is best read as some, line by line."""
    found: list[Digit] = []
    for line in lines(digits):
        _, path = best_path(line)
        # What is cut out of a letter may well look like a digit, but the rest of it does not.
        whole = all(digit.is_digit >= IS_DIGIT for digit in path if digit.candidate.cuts)
        found += [
            digit if whole or not digit.candidate.cuts else digit._replace(is_digit=0.0)
            for digit in path
        ]
    return found


def reading(found: list[Digit]) -> Reading:
    """What to answer, and what of it is to be doubted."""
    sure = [digit for digit in found if digit.is_digit >= IS_DIGIT]
    main = max(sure or found, key=lambda digit: digit.candidate.likely)
    if not sure:
        return Reading([main], main, NO_DIGIT)
    written = {digit.candidate.line for digit in sure}
    beside = [digit for digit in found if digit.candidate.line in written]
    digits = [d for d in beside if d in sure or d.is_digit * d.confidence >= BESIDE]
    unsure = [digit for digit in digits if digit.confidence < SURE]
    if unsure:
        return Reading(digits, main, _other(unsure[0]))
    return Reading(digits, main, NOT_ALL if len(digits) < len(beside) else "")


def best_path(line: Sequence[Digit]) -> tuple[float, list[Digit]]:
    """Which of a line's candidates, one after the other, are most likely all digits.

    Returns:
        The logarithm of how likely that is, and the candidates.
    """
    end = max(digit.candidate.stop for digit in line)
    nothing: tuple[float, list[Digit]] = (-np.inf, [])
    best = [(0.0, nothing[1]), *[nothing] * end]
    for digit in sorted(line, key=lambda digit: digit.candidate.start):
        before, path = best[digit.candidate.start]
        score = before + np.log(max(digit.confidence * digit.is_digit, UNLIKELY))
        score += digit.candidate.cuts / 2 * CUT  # each cut has two sides
        if score > best[digit.candidate.stop][0]:
            best[digit.candidate.stop] = (score, [*path, digit])
    return best[end]


def _other(digit: Digit) -> str:
    """Names the digit that it may be as well."""
    second = sorted(range(len(digit.probabilities)), key=digit.probabilities.__getitem__)[-2]
    return f"{digit.digit} could be {second} as well"
