"""This project's nets as Keras's models, in the words of Keras's configurations.

Source: ``keras.src.models.functional`` and ``keras.src.models.sequential``, 3.15.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple

from torch import nn

from mnist_cnn.errors import UserError
from mnist_cnn.keras_io.files import Layer, described
from mnist_cnn.keras_io.layouts import to_keras, variables, weighted
from mnist_cnn.keras_io.specs import WEIGHTED, Spec, classic, layers_from_spec
from mnist_cnn.nets import EnsembleCNN, FastCNN, KerasCNN, RecordCNN, SequentialCNN
from mnist_cnn.nets.ensemble import corners
from mnist_cnn.nets.fast_cnn import MEAN, STD
from mnist_cnn.nets.layers import BatchNorm

IMAGE = {"batch_shape": [None, 28, 28, 1], "dtype": "float32", "name": "image"}
Tensor = tuple[str, int, int]  # a layer's name, which of its calls, which of that one's outputs


class Model(NamedTuple):
    """A Keras model, from images (B, 28, 28, 1) in [0, 1] to probabilities (B, 10)."""

    entry: Layer  # class and settings, as they stand in ``config.json``
    weights: list[Any]  # of each layer, in Keras's layouts; of a model within, the like of this


def model_of(net: nn.Module, shifts: int = 0) -> Model:
    """The Keras model that answers as a net does.

    Args:
        net: One of this project's, in evaluation mode.
        shifts: `MNISTClassifier`'s ``test_shifts``.

    Raises:
        UserError: If Keras has no counterpart of the net.
    """
    for kind, make in MODELS.items():
        if isinstance(net, kind):
            model = make(net)
            return over_shifts(model, shifts) if shifts else model
    raise UserError(f"{type(net).__name__} has no counterpart in Keras")


def sequential(net: nn.Module, layers: list[Layer]) -> Model:
    """A chain of layers, with the weights of a net that has the same in this order."""
    modules = iter(weighted(net))
    weights = [
        [to_keras(x) for x in variables(next(modules))] if layer["class_name"] in WEIGHTED else []
        for layer in layers
    ]
    image = described("keras.layers", "InputLayer", IMAGE)
    config = {"name": name_of(net), "trainable": True, "layers": [image, *layers]}
    return Model(described("keras", "Sequential", config), [[], *weights])


def fast_cnn(net: FastCNN) -> Model:
    """FastCNN as a chain of layers.

    Raises:
        UserError: If it sets digits upright, for which Keras has no layer.
    """
    if net.upright:
        raise UserError("FastCNN with upright, as in fast.yaml, has no counterpart in Keras")
    first, second, hidden, last = weighted(net)
    spec: Spec = [
        {"rescale": 1 / STD, "offset": -MEAN / STD},
        {"conv": first.out_channels, "kernel": [5, 5], "stride": [2, 2], "activation": "relu"},
        {"conv": second.out_channels, "kernel": [3, 3], "activation": "relu"},
        {"max_pool": [2, 2]},
        {"flatten": True},
        {"dense": hidden.out_features, "activation": "relu"},
        {"dense": last.out_features},
    ]
    crop = described("keras.layers", "Cropping2D", {"name": "crop", "cropping": net.border})
    return sequential(net, [*[crop] * bool(net.border), *layers_from_spec(spec)])


class Graph:
    """A functional Keras model in the making.

    Attributes:
        image: What goes in.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.layers: list[Layer] = []
        self.weights: list[Any] = []
        self.add(described("keras.layers", "InputLayer", IMAGE), [])
        self.image: Tensor = ("image", 0, 0)

    def add(self, entry: Layer, weights: list[Any]) -> Callable[..., Tensor]:
        """Add a layer, or a model as a layer; called with tensors, it gives a tensor."""
        nodes: list[list[list[Any]]] = []
        name = entry["config"]["name"]
        self.layers.append(entry | {"name": name, "inbound_nodes": nodes})
        self.weights.append(weights)

        def call(*inputs: Tensor) -> Tensor:
            nodes.append([[*tensor, {}] for tensor in inputs])
            return name, len(nodes) - 1, 0

        return call

    def layer(self, kind: str, module: Any = None, **config: Any) -> Callable[..., Tensor]:
        """Add a layer of Keras's, with the weights of a module."""
        config["name"] = f"{kind.lower()}_{len(self.layers)}"
        weights = [to_keras(x) for x in variables(module)] if module else []
        return self.add(described("keras.layers", kind, config), weights)

    def model(self, output: Tensor) -> Model:
        """What was made, which ends in this tensor."""
        config = {
            "name": self.name,
            "trainable": True,
            "layers": self.layers,
            "input_layers": [list(self.image)],
            "output_layers": [list(output)],
        }
        entry = described("keras.src.models.functional", "Functional", config)
        return Model(entry | {"registered_name": "Functional"}, self.weights)


def record_cnn(net: RecordCNN) -> Model:
    """RecordCNN, whose two residual blocks are additions."""
    graph = Graph(name_of(net))

    def block(part: nn.Sequential, x: Tensor) -> Tensor:
        for module in part:
            x = _layer_of(graph, module)(x)
        return graph.layer("ReLU")(x)

    x = block(net.widen2, block(net.stem, graph.image))
    x = graph.layer("Add")(x, block(net.stage2, x))
    x = block(net.widen3, graph.layer("MaxPooling2D", pool_size=2)(x))
    x = graph.layer("Add")(x, block(net.stage3, x))
    greatest = graph.layer("GlobalMaxPooling2D")(x)
    mean = graph.layer("GlobalAveragePooling2D")(x)
    x = graph.layer("Concatenate")(greatest, mean)
    units = net.dense.out_features
    return graph.model(graph.layer("Dense", net.dense, units=units, activation="softmax")(x))


def _layer_of(graph: Graph, module: nn.Module) -> Callable[..., Tensor]:
    """A module of `RecordCNN`'s blocks, as a layer."""
    if isinstance(module, nn.Conv2d):
        padding = "same" if any(module.padding) else "valid"  # they step by 1
        options = {"kernel_size": list(module.kernel_size), "padding": padding}
        return graph.layer(
            "Conv2D",
            module,
            filters=module.out_channels,
            use_bias=module.bias is not None,
            **options,
        )
    if isinstance(module, BatchNorm):
        assert module.momentum is not None
        momentum = 1 - module.momentum
        return graph.layer("BatchNormalization", module, epsilon=module.eps, momentum=momentum)
    assert isinstance(module, nn.MaxPool2d)
    return graph.layer("MaxPooling2D", pool_size=module.kernel_size)


def ensemble_cnn(net: EnsembleCNN) -> Model:
    """The mean of the nets' probabilities; of one net the net itself."""
    if len(net.nets) == 1:
        return model_of(net.nets[0])
    graph = Graph(name_of(net))
    outputs = []
    for number, member in enumerate(net.nets):
        entry, weights = model_of(member)
        named = entry | {"config": entry["config"] | {"name": f"net_{number}"}}
        outputs.append(graph.add(named, weights)(graph.image))
    return graph.model(graph.layer("Average")(*outputs))


def over_shifts(model: Model, pixels: int) -> Model:
    """The mean of a model's probabilities over an image and its four shifts."""
    graph = Graph(f"{model.entry['config']['name']}_over_shifts")
    padded = graph.layer("ZeroPadding2D", padding=pixels)(graph.image)
    answer = graph.add(*model)
    outputs = []
    for row, column in corners(pixels):
        cropping = [[row, 2 * pixels - row], [column, 2 * pixels - column]]
        outputs.append(answer(graph.layer("Cropping2D", cropping=cropping)(padded)))
    return graph.model(graph.layer("Average")(*outputs))


MODELS: dict[type[nn.Module], Callable[[Any], Model]] = {
    EnsembleCNN: ensemble_cnn,
    FastCNN: fast_cnn,
    KerasCNN: lambda net: sequential(net, list(layers_from_spec(classic(**net.hparams)))),
    RecordCNN: record_cnn,
    SequentialCNN: lambda net: sequential(net, list(layers_from_spec(net.hparams["layers"]))),
}


def name_of(net: nn.Module) -> str:
    """A net's class, in Keras's way of writing names."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", type(net).__name__).lower()
