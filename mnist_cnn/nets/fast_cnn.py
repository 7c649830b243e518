"""The net for little time.

Letters of the shapes: B images, C channels, H and W pixels, F features.
"""

from __future__ import annotations

import torch.nn.functional as F
from lightning.pytorch.core.mixins import HyperparametersMixin
from torch import Tensor, nn

from mnist_cnn.errors import UserError
from mnist_cnn.nets.layers import ConvMaxPool

MEAN, STD = 0.1307, 0.3081  # of the pixels of MNIST's training images


class FastCNN(nn.Module, HyperparametersMixin):
    """A small net for little time: 24C5 in steps of 2, relu, 32C3, maxpool2, relu, 256-relu, 10.

    Its first layer looks at every second pixel only, where others compute all and pool: a quarter
    of the work, and a quarter of the memory to walk. The border of the image it leaves out.

    Args:
        filters: Channels of the two convolutions, 5×5 and 3×3.
        hidden: Units of the dense layer.
        border: Pixels that are cut off each side of the image, from 0 to 7. MNIST's digits were
            fitted into the 20×20 in the middle, and then moved by a pixel or two.
        num_classes: Number of logits.

    Raises:
        UserError: If `border` is not between 0 and 7.
    """

    def __init__(
        self,
        filters: tuple[int, int] = (24, 32),
        hidden: int = 256,
        border: int = 0,
        num_classes: int = 10,
    ) -> None:
        super().__init__()
        if not 0 <= border <= 7:
            raise UserError(f"FastCNN: border is {border}, but must be from 0 to 7")
        self.border = border
        self.save_hyperparameters(logger=False)
        self.conv1 = nn.Conv2d(1, filters[0], kernel_size=5, stride=2)
        self.conv2 = ConvMaxPool(filters[0], filters[1], kernel_size=3)
        size = (10 - border) // 2  # 28 - 2·border → 12 - border → 10 - border, and pooled
        self.dense1 = nn.Linear(filters[1] * size * size, hidden)
        self.dense2 = nn.Linear(hidden, num_classes)

    def forward(self, x: Tensor) -> Tensor:  # (B, 1, 28, 28) in [0, 1] → (B, 10) logits
        x = F.pad(x, [-self.border] * 4) if self.border else x
        x = (x - MEAN) / STD
        x = F.relu(self.conv1(x), inplace=True)  # (B, 24, 12, 12), less with a border cut off
        x = F.relu(self.conv2(x), inplace=True)  # (B, 32, 5, 5)
        x = x.permute(0, 2, 3, 1).flatten(1)  # (B, 800)
        return self.dense2(F.relu(self.dense1(x), inplace=True))
