"""The net for the best accuracy.

Letters of the shapes: B images, C channels, H and W pixels, F features.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mnist_cnn.nets.describe import arguments
from mnist_cnn.nets.layers import BatchNorm, check_sizes, rectified


class RecordCNN(nn.Module):
    """A small residual net for the best accuracy: 32C5-pool, 64C3, +64C3, pool, 128C3, +128C3.

    Each convolution is followed by batch normalisation and a rectifier; a ``+`` adds what goes in
    to what comes out. The last layer sees the greatest and the mean of each channel. 280,682
    weights with the defaults.

    Args:
        filters: Channels of the three stages.
        num_classes: Number of logits.

    Raises:
        UserError: If one of them is below 1.
    """

    def __init__(
        self, filters: tuple[int, int, int] = (32, 64, 128), num_classes: int = 10
    ) -> None:
        super().__init__()
        self.hparams = arguments(locals())
        check_sizes(self, *filters, num_classes)
        first, second, third = filters
        self.stem = Convolution(1, first, kernel=5, padding=0, pool=True)
        self.widen2 = Convolution(first, second, kernel=3, padding=1)
        self.stage2 = Convolution(second, second, kernel=3, padding=1)
        self.widen3 = Convolution(second, third, kernel=3, padding=1)
        self.stage3 = Convolution(third, third, kernel=3, padding=1)
        self.dense = nn.Linear(2 * third, num_classes)

    def forward(self, x: Tensor) -> Tensor:  # (B, 1, 28, 28) in [0, 1] → (B, 10) logits
        x = self.widen2(self.stem(x))  # (B, 64, 12, 12)
        x = F.max_pool2d(x + self.stage2(x), 2)
        x = self.widen3(x)  # (B, 128, 6, 6)
        x = x + self.stage3(x)
        # As rows of channels: the gradient then comes back in the order of `channels_last`.
        x = x.permute(0, 2, 3, 1).flatten(1, 2)  # (B, 36, 128)
        return self.dense(torch.cat([x.amax(dim=1), x.mean(dim=1)], dim=1))


class Convolution(nn.Sequential):
    """Convolution, 2×2 max-pooling if asked for, batch normalisation, rectifier."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, padding: int, pool: bool = False
    ) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, kernel, padding=padding, bias=False),
            *([nn.MaxPool2d(2)] if pool else []),
            BatchNorm(outputs),
        )

    def forward(self, input: Tensor) -> Tensor:  # (B, C, H, W) → (B, O, P, Q)
        *before, norm = self
        for layer in before:
            input = layer(input)
        return rectified(norm, input)
