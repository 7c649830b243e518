"""A spec, the list of layers that `SequentialCNN` takes: as a net, and as layers of Keras's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from mnist_cnn.errors import UserError
from mnist_cnn.keras_io.files import KerasFileError, Layer, described
from mnist_cnn.nets import KerasCNN, SequentialCNN

Spec = list[dict[str, Any]]
POOLS = {"MaxPooling2D": "max_pool", "AveragePooling2D": "avg_pool"}
GLOBAL_POOLS = {"GlobalMaxPooling2D": "max", "GlobalAveragePooling2D": "avg"}
WEIGHTED = ("Conv2D", "Dense", "BatchNormalization")


def classic(
    filters: tuple[int, int],
    hidden: int,
    conv_dropout: float,
    dense_dropout: float,
    num_classes: int,
) -> Spec:
    """KerasCNN, layer by layer."""
    spec: Spec = [{"conv": f, "kernel": [3, 3], "activation": "relu"} for f in filters]
    spec += [{"max_pool": [2, 2]}, {"dropout": conv_dropout}, {"flatten": True}]
    spec += [{"dense": hidden, "activation": "relu"}, {"dropout": dense_dropout}]
    spec += [{"dense": num_classes}]
    return [layer for layer in spec if layer != {"dropout": 0.0}]


def make_net(spec: Spec) -> nn.Module:
    """The net of these layers: KerasCNN where they are its, SequentialCNN otherwise.

    Raises:
        KerasFileError: If the layers do not fit each other, or do not end in 10 logits.
    """
    try:
        net = _classic_net(spec) or SequentialCNN(spec)
    except UserError as error:
        raise KerasFileError(str(error)) from error
    with torch.inference_mode():
        _, *shape = net.eval()(torch.zeros(1, 1, 28, 28)).shape
    if shape != [10]:
        raise KerasFileError(
            "the last layer must give 10 numbers, one for each digit, as Dense(10) does; it gives "
            f"numbers of the shape {tuple(shape)}"
        )
    return net.train()


def _classic_net(spec: Spec) -> KerasCNN | None:
    convs = [layer["conv"] for layer in spec if "conv" in layer]
    units = [layer["dense"] for layer in spec if "dense" in layer]
    if len(convs) == len(units) == 2:
        flat = spec.index({"flatten": True}) if {"flatten": True} in spec else 0
        rates = [sum(x.get("dropout", 0.0) for x in part) for part in (spec[:flat], spec[flat:])]
        arguments = ((convs[0], convs[1]), units[0], rates[0], rates[1], units[1])
        if classic(*arguments) == spec:
            return KerasCNN(*arguments)
    return None


def layers_from_spec(spec: Spec) -> Iterator[Layer]:
    """The layers of a spec as Keras's, with a softmax at the end."""
    layers = [_layer_of_spec(layer) for layer in spec]
    kind, last = layers[-1]
    if kind == "Dense" and last["activation"] == "linear":
        last["activation"] = "softmax"
    else:
        layers.append(("Softmax", {}))
    for number, (kind, config) in enumerate(layers):
        name = f"{kind.lower()}_{number}"
        yield described("keras.layers", kind, {"name": name, **config})


def _layer_of_spec(layer: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """A layer of a spec as one of Keras's: its kind and its settings."""
    activation = {"activation": layer.get("activation", "linear")}
    weights = activation | {"use_bias": layer.get("bias", True)}
    window = {"padding": layer.get("padding", "valid")}
    if "conv" in layer:
        size = layer.get("kernel", [3, 3])
        window |= {"kernel_size": size, "strides": layer.get("stride", [1, 1])}
        return "Conv2D", {"filters": layer["conv"], **window, **weights}
    if "dense" in layer:
        return "Dense", {"units": layer["dense"], **weights}
    for kind, name in POOLS.items():
        if name in layer:
            size = layer[name]
            return kind, {"pool_size": size, "strides": layer.get("stride", size), **window}
    for kind, name in GLOBAL_POOLS.items():
        if layer.get("global_pool") == name:
            return kind, {}
    if layer.get("batch_norm"):
        return "BatchNormalization", {k: layer[k] for k in ("momentum", "epsilon") if k in layer}
    if "rescale" in layer:
        return "Rescaling", {"scale": layer["rescale"], "offset": layer.get("offset", 0)}
    if "dropout" in layer:
        return "Dropout", {"rate": layer["dropout"]}
    if layer.get("flatten"):
        return "Flatten", {}
    return "Activation", activation
