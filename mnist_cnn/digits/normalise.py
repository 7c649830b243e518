"""Any picture of one digit in MNIST's own form."""

from __future__ import annotations

import torch
from PIL import Image
from torch import Tensor

from mnist_cnn.digits.find import find_digits, likeliest
from mnist_cnn.digits.mnist_form import SIDE, is_mnist_form

__all__ = ["SIDE", "is_mnist_form", "normalise"]


def normalise(picture: Image.Image) -> Tensor:
    """Turn a picture of a digit into what MNIST is.

    A picture that is 28×28 and in MNIST's own form comes back unchanged, its negative as the
    picture that it is the negative of.

    Args:
        picture: Any mode and size, dark on light or light on dark: what differs from the border is
            ink. If there are several digits, one of them.

    Returns:
        (28, 28) uint8, ink bright on dark.

    Raises:
        PictureError: If no ink is seen.
    """
    return torch.from_numpy(likeliest(find_digits(picture)).image)
