"""A trained classifier as a function: bytes in, probabilities out."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn

from mnist_cnn.nets import logits_over_shifts


class Classifier(Protocol):
    """An `MNISTClassifier`, or what `mnist_cnn.checkpoints.trained.load_net` reads."""

    @property
    def net(self) -> nn.Module: ...

    @property
    def test_shifts(self) -> int: ...


class Probabilities(nn.Module):
    """Images (N, 28, 28) uint8, ink bright on dark → probabilities (N, 10) float32.

    The normalisation of the pixels is inside, so that no caller can get it wrong.
    """

    def __init__(self, model: Classifier) -> None:
        super().__init__()
        self.net = model.net.eval()
        self.test_shifts = model.test_shifts

    def forward(self, images: Tensor) -> Tensor:
        return self.over_shifts(images, self.test_shifts)

    def over_shifts(self, images: Tensor, pixels: int) -> Tensor:
        """With other shifts than the model's own; 0: of the images alone."""
        x = images.unsqueeze(1).to(torch.float32) / 255
        return logits_over_shifts(self.net, x, pixels).softmax(dim=1)
