"""The mean of several answers: of several nets, or to one image moved by some pixels.

Letters of the shapes: B images, C channels, H and W pixels, F features.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mnist_cnn.errors import UserError
from mnist_cnn.nets.describe import describe

#: Pixels that an image can be moved at most: half of MNIST's side.
MAX_SHIFTS = 14


class EnsembleCNN(nn.Module):
    """Several nets, whose probabilities are averaged.

    Args:
        nets: The nets; in a configuration each with its ``class_path`` and ``init_args``.

    Raises:
        UserError: If there is none.
    """

    def __init__(self, nets: list[nn.Module]) -> None:
        super().__init__()
        if not nets:
            raise UserError("EnsembleCNN: there has to be a net")
        self.hparams = {"nets": [describe(net) for net in nets]}
        self.nets = nn.ModuleList(nets)

    def forward(self, x: Tensor) -> Tensor:  # (B, 1, 28, 28) in [0, 1] → (B, 10) logits
        return mean_probability([net(x) for net in self.nets])


def mean_probability(logits: list[Tensor]) -> Tensor:
    """Logits of the mean of the probabilities that several logits (B, F) stand for: (B, F)."""
    return torch.stack([x.log_softmax(dim=1) for x in logits]).logsumexp(dim=0)


def logits_over_shifts(net: Callable[[Tensor], Tensor], x: Tensor, pixels: int) -> Tensor:
    """Logits (B, 10) of x (B, 1, H, W), or of the mean probability over it and its four shifts.

    Args:
        net: From images to logits.
        x: The images.
        pixels: How far they are moved down, up, right and left; what moves in is empty. 0: they
            are taken as they are.
    """
    if not pixels:
        return net(x)
    height, width = x.shape[-2:]
    padded = F.pad(x, [pixels] * 4)
    shifted = [padded[:, :, row : row + height, col : col + width] for row, col in corners(pixels)]
    return mean_probability([net(image) for image in shifted])


def corners(pixels: int) -> list[tuple[int, int]]:
    """Row and column of the images of `logits_over_shifts` in one with so many pixels around it."""
    far = 2 * pixels
    return [(pixels, pixels), (0, pixels), (far, pixels), (pixels, 0), (pixels, far)]
