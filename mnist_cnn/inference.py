"""A trained classifier as a function: bytes in, probabilities out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mnist_cnn.checkpoints import CheckpointError, check_fits, described_net, read_checkpoint
from mnist_cnn.model import MNISTClassifier
from mnist_cnn.nets import KerasCNN, SequentialCNN

NETS = {"mnist_cnn.nets.KerasCNN": KerasCNN, "mnist_cnn.nets.SequentialCNN": SequentialCNN}


class Probabilities(nn.Module):
    """Images (N, 28, 28) uint8, ink bright on dark → probabilities (N, 10) float32.

    The normalisation of the pixels is inside, so that no caller can get it wrong.
    """

    def __init__(self, model: MNISTClassifier) -> None:
        super().__init__()
        self.net = model.net

    def forward(self, images: Tensor) -> Tensor:
        x = images.unsqueeze(1).to(torch.float32) / 255
        return self.net(x).softmax(dim=1)


def load_classifier(path: str | Path) -> tuple[MNISTClassifier, dict[str, Any]]:
    """Read a checkpoint of one of this project's nets; no configuration is needed.

    Returns:
        The model, in evaluation mode on the CPU, and facts about it: ``net``, its class and
        arguments, and ``epoch``, if they are known.

    Raises:
        CheckpointError: If the file cannot be read, or is of another net.
    """
    checkpoint = read_checkpoint(path)
    net = described_net(checkpoint)
    if net is None:
        raise CheckpointError(f"checkpoint {path} does not say which of this project's nets it is")
    model = MNISTClassifier(NETS[net["class_path"]](**net["init_args"]))
    check_fits(checkpoint, model, path)
    model.load_state_dict(checkpoint["state_dict"])
    return model.eval(), {"net": net, "epoch": checkpoint.get("epoch")}
