"""Where Keras's weights are in torch's modules, and how they lie there.

Keras keeps a convolution's kernel as (H, W, in, out) and a dense one as (in, out); torch as
(out, in, H, W) and (out, in). The rows of the first dense kernel count rows, columns, channels on
both sides, since the nets here flatten as Keras does.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mnist_cnn.keras_io.optimizers import Array
from mnist_cnn.nets.layers import BatchNorm


def weighted(net: nn.Module) -> list[nn.Module]:
    """The layers of a net that have weights, in the order in which an image passes them."""
    return [m for m in net.modules() if isinstance(m, (nn.Conv2d, nn.Linear, BatchNorm))]


def variables(module: Any, scale: bool = True, center: bool = True) -> list[Tensor]:
    """A layer's weights in Keras's order, its trainable ones first.

    Args:
        module: One of those of `weighted`.
        scale: Whether the Keras layer has the factors of a batch normalisation.
        center: Whether it has its offsets.
    """
    if isinstance(module, BatchNorm):
        trained = [module.weight] * scale + [module.bias] * center
        return [*trained, module.running_mean, module.running_var]  # type: ignore[list-item]
    return [module.weight, *([] if module.bias is None else [module.bias])]


def to_torch(array: Any) -> Tensor:
    """An array of Keras's in torch's layout: its axes with the last ones first."""
    axes = {4: (3, 2, 0, 1), 2: (1, 0)}.get(array.ndim, tuple(range(array.ndim)))
    return torch.from_numpy(array.astype(np.float32).transpose(axes).copy())


def to_keras(tensor: Tensor) -> Array:
    """The reverse of `to_torch`."""
    array = tensor.detach().float().numpy()
    axes = {4: (2, 3, 1, 0), 2: (1, 0)}.get(array.ndim, tuple(range(array.ndim)))
    return array.transpose(axes).copy()


def like(parameter: Tensor, array: Array) -> Tensor:
    """An array of Keras's in the layout and memory format of a parameter."""
    return torch.empty_like(parameter, requires_grad=False).copy_(to_torch(array))
