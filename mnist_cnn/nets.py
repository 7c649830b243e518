"""The nets: from images to logits.

Letters of the shapes: B images, C channels, H and W pixels, F features.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from lightning.pytorch.core.mixins import HyperparametersMixin
from torch import Tensor, nn

from mnist_cnn.randomness import Dropout
from mnist_cnn.sparse import conv_max_pool


class KerasCNN(nn.Module, HyperparametersMixin):
    """The classic Keras MNIST CNN: 32C3-relu, 64C3-relu, maxpool2, dropout, 128-relu, dropout, 10.

    The same function, initialisation and order of weights as the Keras model, 1,199,882 weights
    with the defaults. Three things are written differently and compute the same: the second
    rectifier comes after the pooling, where it has a quarter of the work (both are monotonic, so
    they commute), dropout comes after flattening, where rows lie in one piece, and the gradient of
    the second convolution leaves out the zeros (see `sparse`).

    Args:
        filters: Channels of the two 3×3 convolutions.
        hidden: Units of the dense layer.
        conv_dropout: Share of the pooled features dropped in training, in [0, 1).
        dense_dropout: Share of the dense units dropped in training, in [0, 1).
        num_classes: Number of logits.

    Source:
        ``mnist_cnn.py`` of the Keras examples.
    """

    def __init__(
        self,
        filters: tuple[int, int] = (32, 64),
        hidden: int = 128,
        conv_dropout: float = 0.25,
        dense_dropout: float = 0.5,
        num_classes: int = 10,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(logger=False)
        self.conv1 = nn.Conv2d(1, filters[0], kernel_size=3)
        self.conv2 = nn.Conv2d(filters[0], filters[1], kernel_size=3)
        self.conv_dropout = Dropout(conv_dropout)
        self.dense1 = nn.Linear(filters[1] * 12 * 12, hidden)
        self.dense_dropout = Dropout(dense_dropout)
        self.dense2 = nn.Linear(hidden, num_classes)
        self.apply(keras_init)

    def forward(self, x: Tensor) -> Tensor:  # (B, 1, 28, 28) in [0, 1] → (B, 10) logits
        # In place: no backward needs what is overwritten, and big blocks are what a CPU waits for.
        x = F.relu(self.conv1(x), inplace=True)  # (B, 32, 26, 26)
        x = conv_max_pool(x, self.conv2.weight, self.conv2.bias)
        x = F.relu(x, inplace=True)  # (B, 64, 12, 12)
        x = x.permute(0, 2, 3, 1).flatten(1)  # (B, 9216), Keras's order; free in channels_last
        x = self.conv_dropout(x)
        x = self.dense_dropout(F.relu(self.dense1(x), inplace=True))  # (B, 128)
        return self.dense2(x)


def keras_init(module: nn.Module) -> None:
    """Initialise a layer as Keras does: Glorot-uniform kernels, zero biases."""
    if isinstance(module, (nn.Conv2d, nn.Linear)):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


class SequentialCNN(nn.Module, HyperparametersMixin):
    """A net written down layer by layer, in Keras's terms and with Keras's initialisation.

    Each layer is a mapping with one of these keys, and further ones where they differ from the
    default in brackets:

    - ``conv``: channels; ``kernel`` ([3, 3]), ``stride`` ([1, 1]), ``padding`` (valid) or same,
      ``bias`` (true), ``activation`` (linear)
    - ``max_pool``: pixels, like [2, 2]; ``stride`` (the same pixels)
    - ``dropout``: share of the units dropped in training
    - ``flatten``: true; rows, columns, channels in Keras's order
    - ``dense``: units; ``bias`` (true), ``activation`` (linear)
    - ``activation``: linear, relu, sigmoid or tanh

    Args:
        layers: The layers, from an image of shape (1, 28, 28) to logits.

    Raises:
        ValueError: If a layer is not understood, or does not take what the one before it gives.
    """

    def __init__(self, layers: list[dict[str, Any]]) -> None:
        super().__init__()
        self.save_hyperparameters(logger=False)
        self.layers = nn.Sequential()
        x = torch.zeros(1, 1, 28, 28)  # goes along, to show each layer the shape of its input
        for number, layer in enumerate(layers, start=1):
            try:
                for module in _modules(dict(layer), x.shape[1]):
                    with torch.no_grad():
                        x = module.eval()(x)
                    self.layers.append(module.train())
            except (KeyError, TypeError, RuntimeError) as error:
                raise ValueError(f"layer {number}, {layer}: {error}") from error
        self.apply(keras_init)

    def forward(self, x: Tensor) -> Tensor:  # (B, 1, 28, 28) in [0, 1] → (B, 10) logits
        return self.layers(x)


ACTIVATIONS = {"linear": nn.Identity, "relu": nn.ReLU, "sigmoid": nn.Sigmoid, "tanh": nn.Tanh}


def _modules(layer: dict[str, Any], channels: int) -> list[nn.Module]:
    """The modules of a layer of `SequentialCNN` whose input has so many channels or features."""
    activation = ACTIVATIONS[layer.pop("activation", "linear")]()
    if "conv" in layer:
        conv = nn.Conv2d(
            channels,
            layer.pop("conv"),
            tuple(layer.pop("kernel", [3, 3])),
            stride=tuple(layer.pop("stride", [1, 1])),
            padding=layer.pop("padding", "valid"),
            bias=layer.pop("bias", True),
        )
        modules: list[nn.Module] = [conv, activation]
    elif "max_pool" in layer:
        size = tuple(layer.pop("max_pool"))
        modules = [nn.MaxPool2d(size, tuple(layer.pop("stride", size)))]
    elif "dropout" in layer:
        modules = [Dropout(layer.pop("dropout"))]
    elif layer.pop("flatten", False):
        modules = [FlattenChannelsLast()]
    elif "dense" in layer:
        modules = [nn.Linear(channels, layer.pop("dense"), layer.pop("bias", True)), activation]
    else:
        modules = [activation]
    if layer:
        raise KeyError(f"{', '.join(layer)} not understood here")
    return [module for module in modules if not isinstance(module, nn.Identity)]


class FlattenChannelsLast(nn.Module):
    """Flattens rows, columns, channels in Keras's order."""

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) → (B, H·W·C)
        return x.permute(0, 2, 3, 1).flatten(1)
