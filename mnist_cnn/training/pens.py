"""MNIST's digits as other pens, screens and cameras would have left them.

MNIST was written with one kind of pen and scanned by one kind of machine; what people draw with a
mouse, a finger or a felt pen, and what is left of an 8×8 icon or a creased sheet, looks otherwise.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from mnist_cnn.errors import UserError
from mnist_cnn.training.augment import Augmentation
from mnist_cnn.training.randomness import random_bytes

#: Pixels a side at which an image is seen before it is enlarged again; the first is its own.
GRAINS = (28, 28, 22, 17, 14, 11)
THINNER, THICKER = -0.6, 2.0  # pixels by which a stroke's width changes
SHARPER = 6.0  # times as steep as they were, at most: edges of a drawing program
HALF = 0.35  # of the brightest, which stays as it is: below a half, so that thin strokes stay whole
#: Share of the images through which a straight line goes, in which ink is missing, and in which
#: it is added: a crease, a ruled line that was not taken out.
GAPS, LINES = 0.08, 0.04


class RandomPen(Augmentation):
    """Redraws a share of the images: coarser, thicker, sharper, crossed by a line.

    Args:
        share: Of the images that are changed, each in its own way.

    Raises:
        UserError: If `share` is not between 0 and 1.
    """

    def __init__(self, share: float = 0.5) -> None:
        super().__init__()
        if not 0 <= share <= 1:
            raise UserError(f"RandomPen: share is {share}, but must be from 0 to 1")
        self.save_hyperparameters(logger=False)
        self.share = share

    def __call__(self, images: Tensor, key: Tensor, *, first_row: int) -> Tensor:
        drawn = random_bytes(key, len(images), 2 * 8, first_row).view(-1, 8, 2).float()
        numbers = (drawn[..., 0] + 256 * drawn[..., 1]) / 2**16  # (B, 8), uniform in [0, 1)
        chosen, grain, width, edge, line, angle, place, length = numbers.T[..., None, None]
        x = images.float() / 255
        x = _crossed(x, line, angle, place, length)
        grids = _grains(images.shape[-1], x.device)
        grid = grids[(grain.flatten() * len(GRAINS)).long()]
        x = _bright(grid @ x @ grid.mT)
        x = _bright(_widened(x, THINNER + (THICKER - THINNER) * width))
        x = _bright(((x - HALF) * SHARPER**edge + HALF).clamp(0, 1))
        redrawn = (255 * x).round_().to(torch.uint8)
        return torch.where(chosen < self.share, redrawn, images)


def _bright(x: Tensor) -> Tensor:
    """Images whose brightest pixel is 1, as all of MNIST's have one."""
    return x / x.amax(dim=(1, 2), keepdim=True).clamp(min=1 / 255)


def _grains(side: int, device: torch.device) -> Tensor:
    """Matrices that make a row of pixels as coarse as each of `GRAINS`, (G, side, side)."""
    rows = torch.eye(side, device=device).unsqueeze(0)
    seen = [F.adaptive_avg_pool1d(rows, grain) for grain in GRAINS]
    grids = [F.interpolate(row, side, mode="linear", align_corners=False)[0].T for row in seen]
    return torch.stack(grids)


def _widened(x: Tensor, change: Tensor) -> Tensor:
    """Strokes wider by `change` pixels, (B, 1, 1), or thinner where it is negative."""
    thinned = -F.max_pool2d(-x, 3, stride=1, padding=1)
    x = torch.lerp(x, thinned, (-change).clamp(0, 1) / 2)
    for step in range(2):  # a pooling makes a stroke 2 pixels wider: 1 to either side
        wider = F.max_pool2d(x, 3, stride=1, padding=1)
        x = torch.lerp(x, wider, (change / 2 - step).clamp(0, 1))
    return x


def _crossed(x: Tensor, line: Tensor, angle: Tensor, place: Tensor, length: Tensor) -> Tensor:
    """A straight line in some images, of missing ink or of ink; what it is follows from `line`."""
    side = x.shape[-1]
    middles = torch.arange(side, device=x.device) - (side - 1) / 2
    across, along = torch.cos(torch.pi * angle), torch.sin(torch.pi * angle)
    down, right = middles[:, None], middles[None, :]
    off = (across * right + along * down - (place - 0.5) * side / 2).abs()
    reach = (across * down - along * right).abs() < length * side / 2
    cover = (1.2 - off).clamp(0, 1)
    gap = x * (1 - cover)
    ruled = torch.maximum(x, cover * reach)
    return torch.where(line < GAPS, gap, torch.where(line < GAPS + LINES, ruled, x))
