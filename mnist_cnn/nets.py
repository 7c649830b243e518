"""The nets: from images to logits.

Letters of the shapes: B images, C channels, H and W pixels, F features.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from lightning.pytorch.core.mixins import HyperparametersMixin
from torch import Tensor, nn

from mnist_cnn.batch_norm import BatchNorm
from mnist_cnn.randomness import Dropout
from mnist_cnn.sparse import conv_max_pool

MEAN, STD = 0.1307, 0.3081  # of the pixels of MNIST's training images


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
        self.conv2 = ConvMaxPool(filters[0], filters[1], kernel_size=3)
        self.conv_dropout = Dropout(conv_dropout)
        self.dense1 = nn.Linear(filters[1] * 12 * 12, hidden)
        self.dense_dropout = Dropout(dense_dropout)
        self.dense2 = nn.Linear(hidden, num_classes)
        self.apply(keras_init)

    def forward(self, x: Tensor) -> Tensor:  # (B, 1, 28, 28) in [0, 1] → (B, 10) logits
        # In place: no backward needs what is overwritten, and big blocks are what a CPU waits for.
        x = F.relu(self.conv1(x), inplace=True)  # (B, 32, 26, 26)
        x = F.relu(self.conv2(x), inplace=True)  # (B, 64, 12, 12)
        x = x.permute(0, 2, 3, 1).flatten(1)  # (B, 9216), Keras's order; free in channels_last
        x = self.conv_dropout(x)
        x = self.dense_dropout(F.relu(self.dense1(x), inplace=True))  # (B, 128)
        return self.dense2(x)


class ConvMaxPool(nn.Conv2d):
    """Convolution and 2×2 max-pooling, whose gradient leaves out zeros: see `sparse`."""

    def forward(self, input: Tensor) -> Tensor:  # (B, C, H, W) → (B, O, P, Q)
        return conv_max_pool(input, self.weight, self.bias)


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
        ValueError: If `border` is not between 0 and 7.
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
            raise ValueError(f"FastCNN: border is {border}, but must be from 0 to 7")
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


class RecordCNN(nn.Module, HyperparametersMixin):
    """A small residual net for the best accuracy: 32C5-pool, 64C3, +64C3, pool, 128C3, +128C3.

    Each convolution is followed by batch normalisation and a rectifier; a ``+`` adds what goes in
    to what comes out. The last layer sees the greatest and the mean of each channel. 280,682
    weights with the defaults.

    Args:
        filters: Channels of the three stages.
        num_classes: Number of logits.
    """

    def __init__(
        self, filters: tuple[int, int, int] = (32, 64, 128), num_classes: int = 10
    ) -> None:
        super().__init__()
        self.save_hyperparameters(logger=False)
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
            nn.ReLU(inplace=True),
        )


class EnsembleCNN(nn.Module, HyperparametersMixin):
    """Several nets, whose probabilities are averaged.

    Args:
        nets: The nets; in a configuration each with its ``class_path`` and ``init_args``.

    Raises:
        ValueError: If there is none.
    """

    def __init__(self, nets: list[nn.Module]) -> None:
        super().__init__()
        if not nets:
            raise ValueError("EnsembleCNN: there has to be a net")
        self._set_hparams({"nets": [describe(net) for net in nets]})
        self.nets = nn.ModuleList(nets)

    def forward(self, x: Tensor) -> Tensor:  # (B, 1, 28, 28) in [0, 1] → (B, 10) logits
        return mean_probability([net(x) for net in self.nets])


def mean_probability(logits: list[Tensor]) -> Tensor:
    """Logits of the mean of the probabilities that several logits (B, F) stand for: (B, F)."""
    return torch.stack([x.log_softmax(dim=1) for x in logits]).logsumexp(dim=0)


def logits_over_shifts(net: Callable[[Tensor], Tensor], x: Tensor, pixels: int) -> Tensor:
    """Logits (B, 10) of x (B, 1, H, W), or of the mean probability over it and its four shifts.

    Args:
        net: From images to logits.
        x: The images.
        pixels: How far they are moved down, up, right and left; what moves in is empty. 0: they
            are taken as they are.
    """
    if not pixels:
        return net(x)
    height, width = x.shape[-2:]
    padded, far = F.pad(x, [pixels] * 4), 2 * pixels
    corners = [(pixels, pixels), (0, pixels), (far, pixels), (pixels, 0), (pixels, far)]
    shifted = [padded[:, :, row : row + height, col : col + width] for row, col in corners]
    return mean_probability([net(image) for image in shifted])


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


NETS: dict[str, type[nn.Module]] = {
    f"{net.__module__}.{net.__qualname__}": net
    for net in (EnsembleCNN, FastCNN, KerasCNN, RecordCNN, SequentialCNN)
}


def describe(net: nn.Module) -> dict[str, Any]:
    """A net as it stands in a configuration: its class and the arguments that it was made with.

    >>> describe(KerasCNN(hidden=32))["init_args"]["hidden"]
    32
    """
    cls = type(net)
    init_args = dict(getattr(net, "hparams", {}))
    return {"class_path": f"{cls.__module__}.{cls.__qualname__}", "init_args": init_args}


def make_net(description: dict[str, Any]) -> nn.Module:
    """The net that `describe` describes, with new weights.

    Raises:
        KeyError: If it is not one of `NETS`. No other class is made: it could run any code.
    """
    init_args = dict(description["init_args"])
    if "nets" in init_args:
        init_args["nets"] = [make_net(net) for net in init_args["nets"]]
    return NETS[description["class_path"]](**init_args)
