"""Changes to training images that keep their digit: made on the batch, on its device.

What happens to an image is a function of (seed, epoch, batch, row of the global batch), so that it
is the same on any number of devices: see `randomness`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from lightning.pytorch.core.mixins import HyperparametersMixin
from torch import Tensor

from mnist_cnn.randomness import random_bytes, stream_key

LAYER = -1  # of the stream of random numbers; dropout layers count from 0


class RandomShift(HyperparametersMixin):
    """Moves every image by its own whole number of pixels, to each side equally likely.

    Args:
        pixels: The furthest that an image moves, in each direction. What moves in is empty.

    Raises:
        ValueError: If `pixels` is not between 0 and 14, half an image.
    """

    def __init__(self, pixels: int = 1) -> None:
        super().__init__()
        if not 0 <= pixels <= 14:
            raise ValueError(f"RandomShift: pixels is {pixels}, but must be from 0 to 14")
        self.save_hyperparameters(logger=False)
        self.pixels = pixels

    def __call__(self, images: Tensor, *step: int, first_row: int) -> Tensor:
        """Shift a share of a batch.

        Args:
            images: (B, H, W).
            step: What names the step: seed, epoch, batch.
            first_row: The row of the global batch that is the first of this share.

        Returns:
            (B, H, W).
        """
        batch, height, width = images.shape
        key = torch.full((), stream_key(*step, LAYER), device=images.device)
        choices = 2 * self.pixels + 1
        # Multiply and shift, not modulo: 256 is not a multiple of `choices`.
        chosen = random_bytes(key, batch, 2, first_row).long() * choices >> 8  # (B, 2)
        rows = chosen[:, :1] + torch.arange(height, device=images.device)  # (B, H)
        columns = chosen[:, 1:] + torch.arange(width, device=images.device)  # (B, W)
        padded = F.pad(images, [self.pixels] * 4)
        image = torch.arange(batch, device=images.device)[:, None, None]
        return padded[image, rows[:, :, None], columns[:, None, :]]
