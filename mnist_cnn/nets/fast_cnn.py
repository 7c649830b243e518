"""The net for little time.

Letters of the shapes: B images, C channels, H and W pixels, F features.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mnist_cnn.errors import UserError
from mnist_cnn.nets.describe import arguments
from mnist_cnn.nets.layers import check_sizes, double_conv, rectified

MEAN, STD = 0.1307, 0.3081  # of the pixels of MNIST's training images


class FastCNN(nn.Module):
    """A small net for little time: 24C5 in steps of 2, relu, 32C3, maxpool2, relu, 256-relu, 10.

    Its first layer looks at every second pixel only, where others compute all and pool: a quarter
    of the work, and a quarter of the memory to walk. The border of the image it leaves out, and it
    sets digits upright that lean, so that it has less to learn.

    Args:
        filters: Channels of the two convolutions, 5×5 and 3×3.
        hidden: Units of the dense layer.
        border: Pixels that are cut off each side of the image, from 0 to 7. MNIST's digits were
            fitted into the 20×20 in the middle, and then moved by a pixel or two.
        upright: The share of a digit's slant that is taken out, from 0 to 1; see `Upright`.
        num_classes: Number of logits.

    Raises:
        UserError: If `border` is not between 0 and 7, `upright` between 0 and 1, or a size below 1.
    """

    def __init__(
        self,
        filters: tuple[int, int] = (24, 32),
        hidden: int = 256,
        border: int = 0,
        upright: float = 0.0,
        num_classes: int = 10,
    ) -> None:
        super().__init__()
        self.hparams = arguments(locals())
        check_sizes(self, *filters, hidden, num_classes)
        if not 0 <= border <= 7:
            raise UserError(f"FastCNN: border is {border}, but must be from 0 to 7")
        if not 0 <= upright <= 1:
            raise UserError(f"FastCNN: upright is {upright}, but must be from 0 to 1")
        self.border = border
        self.upright = Upright(upright, border) if upright else None
        self.conv1 = nn.Conv2d(1, filters[0], kernel_size=5, stride=2)
        self.conv2 = nn.Conv2d(filters[0], filters[1], kernel_size=3)
        size = (10 - border) // 2  # 28 - 2·border → 12 - border → 10 - border, and pooled
        self.dense1 = nn.Linear(filters[1] * size * size, hidden)
        self.dense2 = nn.Linear(hidden, num_classes)

    def forward(self, x: Tensor) -> Tensor:  # (B, 1, 28, 28) in [0, 1] → (B, 10) logits
        x = self.upright(x) if self.upright else F.pad(x, [-self.border] * 4)
        x = (x - MEAN) / STD
        x = double_conv(self.conv1, self.conv2, x)  # (B, 32, 5, 5)
        x = x.permute(0, 2, 3, 1).flatten(1)  # (B, 800)
        return self.dense2(rectified(self.dense1, x))


class Upright(nn.Module):
    """Shears images so that what is in them leans less, and cuts off their border.

    The slant is that of the line that fits the ink best, as a function of the row (see Y. LeCun et
    al., "Gradient-based learning applied to document recognition", 1998, on deslanting). The row of
    the centre of mass stays where it is.

    Args:
        share: Of the slant that is taken out.
        border: Pixels that are cut off each side.
        side: Pixels of an image's side.
    """

    #: The least variance of the rows of ink, for a side of 2: a pixel's, about. A line that lies
    #: has no slant.
    LEAST = 1e-3

    places: Tensor
    terms: Tensor

    def __init__(self, share: float, border: int, side: int = 28) -> None:
        super().__init__()
        self.share, self.border = share, border
        places = (2 * torch.arange(side) + 1) / side - 1  # middles of pixels, as grid_sample's
        y, x = torch.meshgrid(places, places, indexing="ij")
        terms = torch.stack([torch.ones_like(x), x, y, x * y, y * y]).flatten(1)
        self.register_buffer("places", places, persistent=False)
        self.register_buffer("terms", terms, persistent=False)  # (5, H·W)

    def forward(self, x: Tensor) -> Tensor:  # (B, 1, H, W) → the same, less the border
        with torch.autocast(x.device.type, enabled=False):
            mass, *others = F.linear(x.flatten(1), self.terms).unbind(dim=1)
            right, down, both, square = (m / mass.clamp(min=self.LEAST) for m in others)
            variance = (square - down * down).clamp(min=self.LEAST)
            slant = self.share * ((both - right * down) / variance).clamp(-1, 1)
            places = self.places[self.border : -self.border or None]
            rows = (places - down[:, None]) * slant[:, None]  # (B, H): how far each is moved
            across = places + rows[:, :, None]  # (B, H, W)
            grid = torch.stack([across, places[:, None].expand_as(across)], dim=-1)
            sheared = F.grid_sample(x, grid, align_corners=False)
        return sheared.clone(memory_format=torch.channels_last)  # or all that follows is slower
