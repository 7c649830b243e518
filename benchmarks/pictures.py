"""How many digits a checkpoint reads in pictures that are not MNIST's.

    python -m benchmarks.pictures tb_logs/cnn/version_0/checkpoints/best.ckpt

Prints a Markdown table. Everything follows from the seed.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator

import numpy as np
import torch
from PIL import Image

from benchmarks import scenes
from benchmarks.scenes import Array, Random
from mnist_cnn.data import MNISTDataModule
from mnist_cnn.digits.decode import PictureError
from mnist_cnn.digits.normalise import normalise
from mnist_cnn.use.classifier import Probabilities, load_classifier

SIZE = (480, 360)  # W and H of the pictures
PEN = 0.09  # of the digit's height


def on_a_table(ink: Array, rng: Random) -> Image.Image:
    """A photograph of a whole sheet, the digit at half its size."""
    small = np.asarray(Image.fromarray(ink.astype(np.float32)).reduce(2), dtype=np.float64)
    ink = np.pad(small, [(side // 2, side - side // 2) for side in small.shape])
    return scenes.photographed(ink, rng, paper=scenes.sheet(ink.shape, rng))


def transparent(ink: Array, rng: Random) -> Image.Image:
    """One colour, and how opaque it is."""
    colour = np.broadcast_to(rng.integers(0, 256, 3), (*ink.shape, 3))
    return Image.fromarray(np.dstack([colour, 255 * ink]).astype(np.uint8))


def any_colours(ink: Array, rng: Random) -> Image.Image:
    """Two colours that differ."""
    while True:
        ground, colour = rng.uniform(0, 1, (2, 3))
        if np.linalg.norm(ground - colour) > 0.4:
            return scenes.drawn(ink, ground, colour)


def with_shadow(ink: Array, rng: Random) -> Image.Image:
    """A photograph with the shadow of a hand or a telephone."""
    return scenes.photographed(ink, rng, shadow=rng.uniform(0.2, 0.5))


def ruled(ink: Array, rng: Random) -> Image.Image:
    """A photograph of ruled paper."""
    return scenes.photographed(ink, rng, lines=scenes.ruled(ink.shape, rng, rng.uniform(30, 60)))


def checked(ink: Array, rng: Random) -> Image.Image:
    """A photograph of checked paper."""
    lines = scenes.ruled(ink.shape, rng, rng.uniform(25, 50), checked=True)
    return scenes.photographed(ink, rng, lines=lines)


def black_lines(ink: Array, rng: Random) -> Image.Image:
    """Lines as black as the ink."""
    return scenes.drawn(np.maximum(ink, scenes.ruled(ink.shape, rng, rng.uniform(50, 90))))


def in_frame(ink: Array, rng: Random) -> Image.Image:
    """A form with a box for the digit."""
    framed = ink.copy()
    framed[:3], framed[-3:], framed[:, :3], framed[:, -3:] = 1, 1, 1, 1
    return scenes.drawn(np.pad(framed, 12))


#: What each row of the table shows: pen, and how the picture comes about.
ROWS: dict[str, tuple[float, scenes.Scene]] = {
    "black on white": (PEN, lambda ink, rng: scenes.drawn(ink)),
    "white on black": (PEN, lambda ink, rng: scenes.drawn(1 - ink)),
    "hairline, one pixel wide": (0, lambda ink, rng: scenes.drawn(ink)),
    "felt pen, a quarter of the height": (0.24, lambda ink, rng: scenes.drawn(ink)),
    "any two colours": (PEN, any_colours),
    "any colour on transparent": (PEN, transparent),
    "1 bit": (PEN, lambda ink, rng: Image.fromarray(ink < 0.5)),
    "with a frame": (PEN, in_frame),
    "on black ruled lines": (PEN, black_lines),
    "photograph": (PEN, scenes.photographed),
    "photograph, thin pen": (0.03, scenes.photographed),
    "photograph, half in shadow": (PEN, with_shadow),
    "photograph, dark corners": (
        PEN,
        lambda ink, rng: scenes.photographed(ink, rng, vignette=0.7),
    ),
    "photograph, dim and noisy": (
        PEN,
        lambda ink, rng: scenes.photographed(ink, rng, exposure=0.35, noise=0.04),
    ),
    "photograph, pencil": (
        0.05,
        lambda ink, rng: scenes.photographed(0.6 * ink, rng, colour=(0.35, 0.35, 0.37)),
    ),
    "photograph, ruled paper": (PEN, ruled),
    "photograph, checked paper": (PEN, checked),
    "photograph of a sheet on a table": (PEN, on_a_table),
    "blackboard": (PEN, scenes.blackboard),
}


def pictures(row: str, count: int, seed: int = 0) -> Iterator[tuple[Image.Image, int]]:
    """Pictures of a row of the table, with their digits."""
    pen, scene = ROWS[row]
    rng = np.random.default_rng(seed)
    for index in range(count):
        yield scene(scenes.handwritten(index % 10, rng, SIZE, pen), rng), index % 10


def enlarged(data: MNISTDataModule, count: int, seed: int = 0) -> Iterator[tuple[Image.Image, int]]:
    """MNIST's test digits inverted, enlarged 7 times, off centre on white."""
    rng = np.random.default_rng(seed)
    for image, label in zip(
        data.test_set.images[:count], data.test_set.labels[:count], strict=True
    ):
        digit = Image.fromarray(255 - image.numpy()).resize((196, 196), Image.Resampling.BICUBIC)
        picture = Image.new("L", (400, 300), 255)
        picture.paste(digit, (int(rng.integers(0, 204)), int(rng.integers(0, 104))))
        yield picture, int(label)


def share_right(
    made: Iterator[tuple[Image.Image, int]], predict: Callable[[torch.Tensor], torch.Tensor]
) -> float:
    """The share of pictures whose digit is found; a picture that cannot be used counts as wrong."""
    images, labels = [], []
    for picture, label in made:
        try:
            images.append(normalise(picture))
            labels.append(label)
        except PictureError:
            images.append(torch.zeros(28, 28, dtype=torch.uint8))
            labels.append(-1)
    with torch.inference_mode():
        answers = torch.cat([predict(b) for b in torch.stack(images).split(500)]).argmax(dim=1)
    return float((answers == torch.tensor(labels)).float().mean())


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint")
    parser.add_argument("--count", type=int, default=200, help="pictures a row (%(default)s)")
    given = parser.parse_args()
    predict = Probabilities(load_classifier(given.checkpoint)[0])
    data = MNISTDataModule()
    data.prepare_data()
    data.setup()
    plain = (predict(batch).argmax(dim=1) for batch in data.test_set.images.split(500))
    right = (torch.cat(list(plain)) == data.test_set.labels).float().mean()
    print("| pictures | right |", "|---|---|", sep="\n")
    print(f"| MNIST's 10,000 test images themselves | {right:.1%} |")
    everything = share_right(enlarged(data, 10_000), predict)
    print(f"| the same inverted, enlarged 7 times, off centre on white | {everything:.1%} |")
    for row in ROWS:
        print(f"| {row} | {share_right(pictures(row, given.count), predict):.1%} |", flush=True)


if __name__ == "__main__":
    main()
