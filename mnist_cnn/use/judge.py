"""A small net that says whether an image is of a digit at all."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from mnist_cnn.nets import RecordCNN

WEIGHTS = Path(str(files("mnist_cnn") / "weights" / "doubt.safetensors"))
FILTERS = (16, 32, 64)


class Judge(nn.Module):
    """Images (N, 28, 28) uint8, ink bright on dark → probabilities (N,) that they are of a digit.

    A classifier knows digits only, and is sure of a letter as well: it has to choose one of ten.
    This net was trained on MNIST and on letters, scribbles, things and pairs of digits, all made
    by a program: ``python -m making.doubt``.
    """

    def __init__(self) -> None:
        super().__init__()
        self.net = RecordCNN(FILTERS, num_classes=2)
        self.net.load_state_dict(load_file(WEIGHTS))
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.net(images.unsqueeze(1).to(torch.float32) / 255)
        return logits.softmax(dim=1)[:, 1]
