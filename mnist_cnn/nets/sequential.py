"""A net written down in a configuration.

Letters of the shapes: B images, C channels, H and W pixels, F features.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mnist_cnn.errors import UserError
from mnist_cnn.nets.describe import arguments
from mnist_cnn.nets.keras_cnn import keras_init
from mnist_cnn.nets.layers import BatchNorm, FlattenChannelsLast
from mnist_cnn.training.randomness import Dropout


class SequentialCNN(nn.Module):
    """A net written down layer by layer, in Keras's terms and with Keras's initialisation.

    Each layer is a mapping with one of these keys, and further ones where they differ from the
    default in brackets:

    - ``conv``: channels; ``kernel`` ([3, 3]), ``stride`` ([1, 1]), ``padding`` (valid) or same,
      ``bias`` (true), ``activation`` (linear)
    - ``max_pool`` or ``avg_pool``: pixels, like [2, 2]; ``stride`` (the same pixels), ``padding``
      (valid) or same
    - ``global_pool``: max or avg, of each channel
    - ``batch_norm``: true; ``momentum`` (0.99), the share of the running statistics that a step
      keeps, and ``epsilon`` (0.001)
    - ``rescale``: factor; ``offset`` (0), which is added then
    - ``dropout``: share of the units dropped in training
    - ``flatten``: true; rows, columns, channels in Keras's order
    - ``dense``: units; ``bias`` (true), ``activation`` (linear)
    - ``activation``: linear, relu, sigmoid or tanh

    Args:
        layers: The layers, from an image of shape (1, 28, 28) to logits.

    Raises:
        UserError: If a layer is not understood, or does not take what the one before it gives.
    """

    def __init__(self, layers: list[dict[str, Any]]) -> None:
        super().__init__()
        self.hparams = arguments(locals())
        self.layers = nn.Sequential()
        x = torch.zeros(1, 1, 28, 28)  # goes along, to show each layer the shape of its input
        for number, layer in enumerate(layers, start=1):
            try:
                for module in _modules(dict(layer), x):
                    with torch.no_grad():
                        x = module.eval()(x)
                    self.layers.append(module.train())
            except (KeyError, TypeError, ValueError, RuntimeError) as error:
                raise UserError(f"layer {number}, {layer}: {error}") from error
        self.apply(keras_init)

    def forward(self, x: Tensor) -> Tensor:  # (B, 1, 28, 28) in [0, 1] → (B, 10) logits
        return self.layers(x)


ACTIVATIONS = {"linear": nn.Identity, "relu": nn.ReLU, "sigmoid": nn.Sigmoid, "tanh": nn.Tanh}


def _modules(layer: dict[str, Any], x: Tensor) -> list[nn.Module]:
    """The modules of a layer of `SequentialCNN` that gets an input like x."""
    channels = x.shape[1]
    activation = ACTIVATIONS[layer.pop("activation", "linear")]()
    if "conv" in layer:
        conv, kernel = layer.pop("conv"), tuple(layer.pop("kernel", [3, 3]))
        stride, padding = tuple(layer.pop("stride", [1, 1])), layer.pop("padding", "valid")
        by_hand = padding == "same" and stride != (1, 1)  # torch has it for steps of 1 only
        modules: list[nn.Module] = [SamePadding(kernel, stride)] * by_hand
        padding, bias = "valid" if by_hand else padding, layer.pop("bias", True)
        modules += [nn.Conv2d(channels, conv, kernel, stride, padding, bias=bias), activation]
    elif "max_pool" in layer or "avg_pool" in layer:
        kind = "max_pool" if "max_pool" in layer else "avg_pool"
        size = tuple(layer.pop(kind))
        stride, padding = tuple(layer.pop("stride", size)), layer.pop("padding", "valid")
        modules = [POOLS[kind, padding](size, stride)]
    elif "global_pool" in layer:
        modules = [GLOBAL_POOLS[layer.pop("global_pool")](1), FlattenChannelsLast()]
    elif layer.pop("batch_norm", False):
        norm = BatchNorm if x.ndim == 4 else FeatureBatchNorm
        epsilon, momentum = layer.pop("epsilon", 1e-3), layer.pop("momentum", 0.99)
        modules = [norm(channels, eps=epsilon, momentum=1 - momentum)]
    elif "rescale" in layer:
        modules = [Rescale(layer.pop("rescale"), layer.pop("offset", 0))]
    elif "dropout" in layer:
        modules = [Dropout(layer.pop("dropout"))]
    elif layer.pop("flatten", False):
        modules = [FlattenChannelsLast()]
    elif "dense" in layer:
        if x.ndim != 2:
            raise ValueError(f"flatten comes first: the input has the shape {tuple(x.shape[1:])}")
        modules = [nn.Linear(channels, layer.pop("dense"), layer.pop("bias", True)), activation]
    else:
        modules = [activation]
    if layer:
        raise KeyError(f"{', '.join(layer)} not understood here")
    return [module for module in modules if not isinstance(module, nn.Identity)]


class SamePadding(nn.Module):
    """Pads an image so that windows in steps of `stride` cover it, the odd pixel at the far end.

    Args:
        kernel: Rows and columns of a window.
        stride: Pixels from one to the next.
        value: What is put there.

    Source:
        TensorFlow's and Keras's ``padding="same"``.
    """

    def __init__(
        self, kernel: tuple[int, int], stride: tuple[int, int], value: float = 0.0
    ) -> None:
        super().__init__()
        self.kernel, self.stride, self.value = kernel, stride, value

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) → the same with rows and columns more
        pads: list[int] = []
        for axis in (1, 0):  # F.pad wants the last one first
            size, kernel, stride = x.shape[2 + axis], self.kernel[axis], self.stride[axis]
            total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
            pads += [total // 2, total - total // 2]
        return F.pad(x, pads, value=self.value)


class SameMaxPool(nn.Sequential):
    """Max-pooling with ``padding="same"``."""

    def __init__(self, size: tuple[int, int], stride: tuple[int, int]) -> None:
        super().__init__(SamePadding(size, stride, -torch.inf), nn.MaxPool2d(size, stride))


class SameAvgPool(nn.Sequential):
    """The mean over windows with ``padding="same"``: of the pixels that are in the image.

    As Keras does on TensorFlow; on torch it repeats the last pixels where the padding is uneven.
    """

    def __init__(self, size: tuple[int, int], stride: tuple[int, int]) -> None:
        super().__init__(SamePadding(size, stride), nn.AvgPool2d(size, stride))

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) → (B, C, H/stride, W/stride)
        return super().forward(x) / super().forward(torch.ones_like(x[:1, :1]))


POOLS = {
    ("max_pool", "valid"): nn.MaxPool2d,
    ("max_pool", "same"): SameMaxPool,
    ("avg_pool", "valid"): nn.AvgPool2d,
    ("avg_pool", "same"): SameAvgPool,
}
GLOBAL_POOLS = {"max": nn.AdaptiveMaxPool2d, "avg": nn.AdaptiveAvgPool2d}


class FeatureBatchNorm(BatchNorm):
    """`BatchNorm` of features."""

    def forward(self, x: Tensor) -> Tensor:  # (B, F) → (B, F)
        return super().forward(x[:, :, None, None])[:, :, 0, 0]


class Rescale(nn.Module):
    """x · scale + offset."""

    def __init__(self, scale: float, offset: float) -> None:
        super().__init__()
        self.scale, self.offset = scale, offset

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale + self.offset
