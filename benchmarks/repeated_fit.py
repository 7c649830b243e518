"""The command-line program on a part of MNIST's training images, or on all of them several times.

    python -m benchmarks.repeated_fit 4.0 fit --config configs/cnn.yaml

For ``scaling.py``. The program has no such option, since nobody trains so; here its data module
finds its training images cut or repeated to the given share of them.
"""

from __future__ import annotations

import sys

import mnist_cnn  # noqa: F401  # before torch: see there

# isort: split

import torch

from mnist_cnn.__main__ import main
from mnist_cnn.data import MNISTDataModule
from mnist_cnn.training.global_batches import LabelledImages


def take_share(share: float) -> None:
    """Let `MNISTDataModule` set up that share of the training images."""
    original = MNISTDataModule.setup

    def setup(self: MNISTDataModule, stage: str | None = None) -> None:
        original(self, stage)
        images, labels = self.train_set.images, self.train_set.labels
        indices = torch.arange(round(share * len(labels))) % len(labels)
        self.train_set = LabelledImages(images[indices], labels[indices])

    MNISTDataModule.setup = setup  # type: ignore[method-assign]


if __name__ == "__main__":
    take_share(float(sys.argv.pop(1)))
    main()
