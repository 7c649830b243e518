"""Changes to training images that keep their digit: made on the batch, on its device.

What happens to an image is a function of (seed, epoch, batch, row of the global batch), so that it
is the same on any number of devices: see `randomness`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from lightning.pytorch.core.mixins import HyperparametersMixin
from torch import Tensor

from mnist_cnn.errors import UserError
from mnist_cnn.training.randomness import random_bytes


class Augmentation(HyperparametersMixin, ABC):
    """Changes a batch of training images; a subclass says how."""

    @abstractmethod
    def __call__(self, images: Tensor, key: Tensor, *, first_row: int) -> Tensor:
        """Change a share of a batch.

        Args:
            images: (B, H, W) uint8.
            key: int64 scalar, the key of the step: see `step_keys`.
            first_row: The row of the global batch that is the first of this share.

        Returns:
            (B, H, W) uint8.
        """


class Compose(Augmentation):
    """Makes several changes, one after the other, as torchvision's ``Compose`` does.

    Args:
        augmentations: The changes, in their order.
    """

    def __init__(self, augmentations: list[Augmentation]) -> None:
        super().__init__()
        self.save_hyperparameters(logger=False)
        self.augmentations = augmentations

    def __call__(self, images: Tensor, key: Tensor, *, first_row: int) -> Tensor:
        for number, augmentation in enumerate(self.augmentations):
            # Each draws from a key of its own; the first from that of the step, as it would alone.
            images = augmentation(images, key + number, first_row=first_row)
        return images


class RandomShift(Augmentation):
    """Moves every image by its own whole number of pixels, to each side equally likely.

    Args:
        pixels: The furthest that an image moves, in each direction. What moves in is empty.

    Raises:
        UserError: If `pixels` is not between 0 and 14, half an image.
    """

    def __init__(self, pixels: int = 1) -> None:
        super().__init__()
        if not 0 <= pixels <= 14:
            raise UserError(f"RandomShift: pixels is {pixels}, but must be from 0 to 14")
        self.save_hyperparameters(logger=False)
        self.pixels = pixels

    def __call__(self, images: Tensor, key: Tensor, *, first_row: int) -> Tensor:
        batch, height, width = images.shape
        choices = 2 * self.pixels + 1
        # Multiply and shift, not modulo: 256 is not a multiple of `choices`.
        chosen = random_bytes(key, batch, 2, first_row).long() * choices >> 8  # (B, 2)
        padded = F.pad(images, [self.pixels] * 4)
        windows = padded.unfold(1, height, 1).unfold(2, width, 1)  # (B, choices, choices, H, W)
        image = torch.arange(batch, device=images.device)
        return windows[image, chosen[:, 0], chosen[:, 1]]


class RandomAffine(Augmentation):
    """Turns, moves, scales, shears, bends and thickens every image in its own way.

    Not ``torchvision.transforms.v2``, which changes all images of a batch alike, and not kornia,
    whose random numbers depend on how many devices share a batch.

    Args:
        degrees: The furthest that an image is turned, to either side.
        pixels: The furthest that it is moved, along each axis.
        scale: The most that each axis is stretched or shrunk by, as a share of 1.
        shear: The most that rows are moved against each other: pixels for each pixel of height.
        bend: The furthest that each of `KNOTS` × `KNOTS` places, spread over the image, is moved
            for itself, along each axis, in pixels; between them the image is bent smoothly
            (elastic distortion: Simard, Steinkraus and Platt, "Best practices for convolutional
            neural networks applied to visual document analysis", ICDAR 2003).
        thicken: The most that strokes grow, or for as many images shrink: how far each pixel goes,
            as a share of 1, towards the brightest or the darkest of the nine around it.

    Raises:
        UserError: If one is negative, `scale` not below 1 or `thicken` above 1.
    """

    KNOTS = 5

    def __init__(
        self,
        degrees: float = 12.0,
        pixels: float = 2.0,
        scale: float = 0.12,
        shear: float = 0.12,
        bend: float = 0.0,
        thicken: float = 0.0,
    ) -> None:
        super().__init__()
        if min(degrees, pixels, scale, shear, bend, thicken) < 0 or scale >= 1 or thicken > 1:
            given = f"{degrees=}, {pixels=}, {scale=}, {shear=}, {bend=}, {thicken=}"
            limits = "all must be at least 0, scale below 1, and thicken at most 1"
            raise UserError(f"RandomAffine: {given}: {limits}")
        self.save_hyperparameters(logger=False)
        self.limits = (math.radians(degrees), pixels, pixels, scale, scale, shear, thicken)
        self.bend = bend
        self.thicken = thicken

    def __call__(self, images: Tensor, key: Tensor, *, first_row: int) -> Tensor:
        batch, height, width = images.shape
        knots = 2 * self.KNOTS**2 if self.bend else 0
        numbers = random_bytes(key, batch, 2 * (7 + knots), first_row).view(batch, -1, 2).float()
        numbers = numbers[..., 0] + 256 * numbers[..., 1]
        numbers = numbers / (2**15 - 0.5) - 1  # (B, …), uniform in [-1, 1]
        angle, right, down, wide, high, shear, thicken = (
            number * limit for number, limit in zip(numbers.T[:7], self.limits, strict=True)
        )
        cos, sin = angle.cos(), angle.sin()
        # Where each pixel comes from, in the coordinates of `grid_sample`, -1 to 1 over the image.
        rows = torch.stack(
            [
                torch.stack([cos * (1 + wide), shear - sin, 2 / width * right], dim=1),
                torch.stack([sin, cos * (1 + high), 2 / height * down], dim=1),
            ],
            dim=1,
        )
        grid = F.affine_grid(rows, [batch, 1, height, width], align_corners=False)
        if knots:
            places = numbers[:, 7:].view(batch, 2, self.KNOTS, self.KNOTS) * (2 * self.bend / width)
            smooth = F.interpolate(places, (height, width), mode="bicubic", align_corners=True)
            grid = grid + smooth.permute(0, 2, 3, 1)
        moved = F.grid_sample(images.unsqueeze(1).float(), grid, align_corners=False)
        if self.thicken:
            share = thicken[:, None, None, None]
            brightest = F.max_pool2d(moved, 3, stride=1, padding=1)
            darkest = -F.max_pool2d(-moved, 3, stride=1, padding=1)
            moved = torch.lerp(moved, torch.where(share > 0, brightest, darkest), share.abs())
        return moved.squeeze(1).round_().to(torch.uint8)  # between 0 and 255
