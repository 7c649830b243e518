"""What the included models are trained on beside MNIST."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from making import images, strokes
from mnist_cnn import BUNDLED, load_classifier
from mnist_cnn.digits.mnist_form import is_mnist_form
from mnist_cnn.use.judge import Judge


@pytest.mark.parametrize(
    "ways", [*strokes.DIGITS.values(), strokes.SIGNS], ids=[*map(str, strokes.DIGITS), "signs"]
)
def test_every_way_to_write_a_sign_becomes_an_image_of_mnists_form(ways: list[str]) -> None:
    for way in ways:
        assert is_mnist_form(images.in_form(strokes.write([way], np.random.default_rng(0)))), way


def test_made_digits_are_read_as_what_they_are() -> None:
    seen, labels = images.digits(300, np.random.default_rng(7))
    with torch.inference_mode():
        answers = load_classifier(BUNDLED)[0](seen).argmax(dim=1)
    assert (answers == labels).float().mean() > 0.97


@pytest.mark.slow
def test_the_judge_knows_digits_from_signs() -> None:
    rng = np.random.default_rng(7)
    digits, _ = images.digits(200, rng)
    signs = np.stack([images.in_form(strokes.write(strokes.SIGNS, rng)) for _ in range(200)])
    with torch.inference_mode():
        judge = Judge()
        assert (judge(digits) > 0.5).float().mean() > 0.95
        assert (judge(torch.from_numpy(signs)) > 0.5).float().mean() < 0.1
