"""Makes the included model of a run of configs/pictures.yaml: its confidence calibrated, exported.

    python -m making.calibrate tb_logs/pictures/version_0/checkpoints/last.ckpt

A net that was trained with changed images and smoothed labels is too modest. Its last layer is
divided by a temperature (C. Guo et al., "On calibration of modern neural networks", 2017), so that
nobody has to know of it. The temperature is the one at which training images that were held out,
half of them as they are, half redrawn by other pens, are the least surprising. Prints how well
the confidence then fits the share of right answers, on these and on labelled pictures of your own:

    python -m making.calibrate --check photos/single # whose names end in _7.png and the like

With `--plot FILE`, it draws a reliability diagram of them.
"""

from __future__ import annotations

import argparse
import re
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mnist_cnn.checkpoints.classifier import load_classifier
from mnist_cnn.checkpoints.files import BUNDLED
from mnist_cnn.data import MNISTDataModule
from mnist_cnn.digits.files import find_files, read_files
from mnist_cnn.digits.find import likeliest
from mnist_cnn.model import MNISTClassifier
from mnist_cnn.nets.ensemble import corners
from mnist_cnn.training.augment import Compose, RandomAffine
from mnist_cnn.training.pens import RandomPen
from mnist_cnn.use.classifier import Probabilities
from mnist_cnn.use.export import export

VAL_SIZE = 5_000  # of configs/pictures.yaml
TEMPERATURES = [number / 50 for number in range(10, 76)]
BINS = 15  # of confidence, equally wide


def main() -> None:
    """Calibrate and export, or check."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("checkpoint", nargs="?", type=Path)
    parser.add_argument("--check", type=Path, help="a folder of labelled pictures")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="a reliability diagram")
    parser.add_argument("--out", type=Path, default=BUNDLED, help="(%(default)s)")
    args = parser.parse_args()
    data = MNISTDataModule(val_size=VAL_SIZE)
    data.prepare_data()
    data.setup()
    if args.checkpoint:
        calibrate(args.checkpoint, args.out, data.val_set.images, data.val_set.labels)
    model = load_classifier(args.out)[0]
    sets = {"MNIST's test images": (data.test_set.images, data.test_set.labels)}
    if args.check:
        pages = [page for page in read_files(find_files(str(args.check))) if page.candidates]
        seen = torch.from_numpy(np.stack([likeliest(page.candidates).image for page in pages]))
        names = [re.search(r"_(\d)\.", page.file) for page in pages]
        labels = torch.tensor([int(name[1]) for name in names if name])
        sets["pictures that people made"] = (seen, labels)
    found = {name: (probabilities(model, images), y) for name, (images, y) in sets.items()}
    for name, (answers, labels) in found.items():
        print(f"{name}: {reliability(answers, labels)}")
    if args.plot:
        draw(found, args.plot)


def calibrate(checkpoint: Path, out: Path, images: Tensor, labels: Tensor) -> None:
    """Divide the last layer by the best temperature, and export."""
    pen = Compose([RandomAffine(12, 2, scale=0.15, shear=0.15, bend=0.8), RandomPen(1.0)])
    images = torch.cat([images, pen(images, torch.tensor(1), first_row=0)])
    labels = torch.cat([labels, labels])
    model = load_classifier(checkpoint)[0]
    logits = torch.stack([logits_of(model, moved) for moved in shifts(images, model.test_shifts)])
    surprise = {}
    for temperature in TEMPERATURES:
        found = (logits / temperature).softmax(dim=2).mean(dim=0)
        surprise[temperature] = float(F.nll_loss(found.clamp(min=1e-9).log(), labels))
    best = min(surprise, key=surprise.__getitem__)
    print(f"temperature {best:.2f}: cross-entropy {surprise[best]:.4f}, not {surprise[1.0]:.4f}")
    content = torch.load(checkpoint, weights_only=True)
    for name in ("net.dense.weight", "net.dense.bias"):
        content["state_dict"][name] /= best
    with tempfile.TemporaryDirectory() as folder:
        torch.save(content, Path(folder) / "calibrated.ckpt")
        print(export([Path(folder) / "calibrated.ckpt"], "safetensors", out))


def shifts(images: Tensor, pixels: int) -> list[Tensor]:
    """The images as they are and moved to four sides, as `logits_over_shifts` moves them."""
    height, width = images.shape[-2:]
    padded = F.pad(images, [pixels] * 4)
    return [padded[:, y : y + height, x : x + width] for y, x in corners(pixels)]


def logits_of(model: MNISTClassifier, images: Tensor) -> Tensor:
    """(N, 10) of images (N, 28, 28)."""
    with torch.inference_mode():
        return torch.cat([model.net(part.unsqueeze(1) / 255) for part in images.split(500)])


def probabilities(model: MNISTClassifier, images: Tensor) -> Tensor:
    """(N, 10) of images (N, 28, 28)."""
    classify = Probabilities(model)
    with torch.inference_mode():
        return torch.cat([classify(part) for part in images.split(500)])


class Bin(NamedTuple):
    """Answers of about the same confidence."""

    share: float  # of all answers
    confidence: float  # mean
    right: float  # share


def bins_of(found: Tensor, labels: Tensor) -> list[Bin]:
    """Probabilities (N, 10) of what has labels (N,), in bins of confidence that are not empty."""
    confidence, answers = found.max(dim=1)
    right = (answers == labels).float()
    bins = (confidence * BINS).long().clamp(max=BINS - 1)
    of = [bins == number for number in bins.unique()]
    return [
        Bin(float(x.float().mean()), float(confidence[x].mean()), float(right[x].mean()))
        for x in of
    ]


def reliability(found: Tensor, labels: Tensor) -> str:
    """Accuracy, mean confidence and the expected calibration error, as words."""
    bins = bins_of(found, labels)
    right, confidence, error = (
        sum(b.share * number for b, number in zip(bins, numbers, strict=True))
        for numbers in (
            [b.right for b in bins],
            [b.confidence for b in bins],
            [abs(b.right - b.confidence) for b in bins],
        )
    )
    return (
        f"{len(labels)} images, {right:.4f} right, mean confidence {confidence:.4f}, "
        f"expected calibration error {error:.4f}"
    )


def draw(sets: dict[str, tuple[Tensor, Tensor]], file: Path) -> None:
    """A reliability diagram: of each bin, how much of it is right, and how large it is."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(sets), figsize=(4.5 * len(sets), 4), squeeze=False)
    for axis, (name, (found, labels)) in zip(axes.flat, sets.items(), strict=True):
        bins = bins_of(found, labels)
        axis.plot([0, 1], [0, 1], "--", color="grey", linewidth=1)
        axis.plot([b.confidence for b in bins], [b.right for b in bins], color="tab:blue")
        for b in bins:
            axis.plot(b.confidence, b.right, "o", color="tab:blue", markersize=3 + 12 * b.share)
            number = round(b.share * len(labels))
            axis.annotate(f" {number}", (b.confidence, b.right), fontsize=7, va="top")
        axis.set(title=f"{name} ({len(labels)})", xlabel="confidence", ylabel="right")
    figure.tight_layout()
    figure.savefig(file, dpi=100)


if __name__ == "__main__":
    main()
