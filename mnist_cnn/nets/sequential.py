"""A net written down in a configuration.

Letters of the shapes: B images, C channels, H and W pixels, F features.
"""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch.core.mixins import HyperparametersMixin
from torch import Tensor, nn

from mnist_cnn.errors import UserError
from mnist_cnn.nets.keras_cnn import keras_init
from mnist_cnn.nets.layers import FlattenChannelsLast
from mnist_cnn.training.randomness import Dropout


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
        UserError: If a layer is not understood, or does not take what the one before it gives.
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
                raise UserError(f"layer {number}, {layer}: {error}") from error
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
