"""Keras's layers and this project's nets, in terms of each other.

Between the two stands a spec: the list of layers that `SequentialCNN` takes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn

from mnist_cnn.keras_io.files import KerasFileError, KerasModel, Layer, kind_of
from mnist_cnn.nets import KerasCNN, SequentialCNN
from mnist_cnn.nets.sequential import ACTIVATIONS

Spec = list[dict[str, Any]]


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
    """The net of these layers: KerasCNN where they are its, SequentialCNN otherwise."""
    convs = [layer["conv"] for layer in spec if "conv" in layer]
    units = [layer["dense"] for layer in spec if "dense" in layer]
    if len(convs) == len(units) == 2:
        flat = spec.index({"flatten": True}) if {"flatten": True} in spec else 0
        rates = [sum(x.get("dropout", 0.0) for x in part) for part in (spec[:flat], spec[flat:])]
        arguments = ((convs[0], convs[1]), units[0], rates[0], rates[1], units[1])
        if classic(*arguments) == spec:
            return KerasCNN(*arguments)
    return SequentialCNN(spec)


def spec_of(net: dict[str, Any]) -> Spec:
    """The layers of one of this project's nets, as a checkpoint describes it."""
    arguments = net["init_args"]
    return arguments["layers"] if "layers" in arguments else classic(**arguments)


def spec_from_layers(layers: list[Layer]) -> Spec:
    """Translate Keras's layers; refuse by name what has no counterpart.

    Raises:
        KerasFileError: If a layer, or an option of one, is not supported.
    """
    spec: Spec = []
    for layer in layers:
        kind, config = layer["class_name"], layer["config"]
        shape = config.get("batch_shape") or config.get("batch_input_shape")
        if shape and list(shape[1:]) != [28, 28, 1]:
            raise KerasFileError(
                f"layer {config.get('name')}: input of shape {tuple(shape[1:])}; "
                "only (28, 28, 1) is supported"
            )
        try:
            if spec and spec[-1].get("activation") == "softmax":
                raise KerasFileError("comes after a softmax; supported is one at the end only")
            spec += _translate(kind, config)
        except KerasFileError as error:
            raise KerasFileError(f"layer {config.get('name')} ({kind}): {error}") from None
    if spec and spec[-1].get("activation") == "softmax":  # the loss has it
        if set(spec[-1]) == {"activation"}:
            spec.pop()
        else:
            del spec[-1]["activation"]
    if not spec or spec[-1].get("dense") != 10 or "activation" in spec[-1]:
        name = layers[-1]["config"].get("name") if layers else "?"
        raise KerasFileError(
            f"layer {name}: the last layer must be Dense(10) with softmax or without activation"
        )
    return spec


def _translate(kind: str, config: dict[str, Any]) -> Spec:
    """One Keras layer; numbers and words that equal a default are left out."""
    _expect(config, data_format=("channels_last", None))
    if kind == "InputLayer":
        return []
    if kind == "Conv2D":
        _expect(config, dilation_rate=([1, 1], (1, 1), 1), groups=(1,), padding=("valid", "same"))
        layer: dict[str, Any] = {"conv": config["filters"], "kernel": list(config["kernel_size"])}
        if list(config.get("strides", [1, 1])) != [1, 1]:
            _expect(config, padding=("valid",))
            layer["stride"] = list(config["strides"])
        if config.get("padding", "valid") != "valid":
            layer["padding"] = config["padding"]
        return [layer | _options(config)]
    if kind == "Dense":
        return [{"dense": config["units"]} | _options(config)]
    if kind == "MaxPooling2D":
        _expect(config, padding=("valid",))
        size = list(config["pool_size"])
        stride = list(config.get("strides") or size)
        return [{"max_pool": size} | ({} if stride == size else {"stride": stride})]
    if kind == "Dropout":
        _expect(config, noise_shape=(None,))
        return [{"dropout": config["rate"]}] if config["rate"] else []
    if kind == "Flatten":
        return [{"flatten": True}]
    if kind == "ReLU":
        _expect(config, max_value=(None,), negative_slope=(0, 0.0), threshold=(0, 0.0))
        return [{"activation": "relu"}]
    if kind == "Softmax":
        _expect(config, axis=(-1,))
        return [{"activation": "softmax"}]
    if kind == "Activation":
        return [_options(config)] if _options(config) else []
    raise KerasFileError("this kind of layer is not supported")


def _options(config: dict[str, Any]) -> dict[str, Any]:
    activation = config.get("activation") or "linear"
    if activation not in (*ACTIVATIONS, "softmax"):
        raise KerasFileError(f"activation {activation} is not supported")
    options = {} if activation == "linear" else {"activation": activation}
    return options if config.get("use_bias", True) else options | {"bias": False}


def _expect(config: dict[str, Any], **allowed: tuple[Any, ...]) -> None:
    for name, values in allowed.items():
        if config.get(name, values[0]) not in values:
            raise KerasFileError(f"{name}={config[name]} is not supported")


def spec_from_weights(keras: KerasModel) -> Spec:
    """Guess the layers from a file that has weights only, where they leave no choice.

    Such a file names the kinds of layers and gives the kernels' shapes, but neither their order
    nor their options. Taken for granted: the order of the classic stack (convolutions, one
    pooling of 2×2, dense layers), ReLU between layers, and KerasCNN's rates of dropout.

    Raises:
        KerasFileError: If the shapes do not agree with that.
    """
    kinds = {kind_of(name) for name in keras.groups}
    kernels = [layer[0] for layer in keras.weights]
    convs = [k for k in kernels if k.ndim == 4]
    dense = [k for k in kernels if k.ndim == 2]
    drops = sum(name.startswith("dropout") for name in keras.groups)
    side = 28
    for kernel in convs:
        side -= kernel.shape[0] - 1
    side //= 2 if "max_pooling2d" in kinds else 1
    known = {"conv2d", "dense", "max_pooling2d", "dropout", "flatten", "input_layer", "softmax"}
    if (
        not dense
        or not kinds <= known
        or sum(name.startswith("max_pooling2d") for name in keras.groups) > 1
        or drops > 2
        or dense[0].shape[0] != side * side * (convs[-1].shape[3] if convs else 1)
    ):
        raise KerasFileError(
            "weights alone do not say how these layers follow each other; "
            "save the whole model from Keras: model.save('model.keras')"
        )
    spec: Spec = [
        {"conv": k.shape[3], "kernel": list(k.shape[:2]), "activation": "relu"} for k in convs
    ]
    spec += [{"max_pool": [2, 2]}] * ("max_pooling2d" in kinds)
    spec += [{"dropout": 0.25}] * (drops == 2) + [{"flatten": True}]
    spec += [{"dense": k.shape[1], "activation": "relu"} for k in dense[:-1]]
    return [*spec, *[{"dropout": 0.5}] * (drops > 0), {"dense": dense[-1].shape[1]}]


def layers_from_spec(spec: Spec) -> Iterator[Layer]:
    """The reverse of `spec_from_layers`, with a softmax at the end."""
    for number, layer in enumerate(spec):
        activation = layer.get("activation", "linear")
        if number == len(spec) - 1 and "dense" in layer and activation == "linear":
            activation = "softmax"
        weights = {"activation": activation, "use_bias": layer.get("bias", True)}
        if "conv" in layer:
            kind, config = (
                "Conv2D",
                {
                    "filters": layer["conv"],
                    "kernel_size": layer.get("kernel", [3, 3]),
                    "strides": layer.get("stride", [1, 1]),
                    "padding": layer.get("padding", "valid"),
                    **weights,
                },
            )
        elif "dense" in layer:
            kind, config = "Dense", {"units": layer["dense"], **weights}
        elif "max_pool" in layer:
            size = layer["max_pool"]
            kind, config = "MaxPooling2D", {"pool_size": size, "strides": layer.get("stride", size)}
        elif "dropout" in layer:
            kind, config = "Dropout", {"rate": layer["dropout"]}
        elif "flatten" in layer:
            kind, config = "Flatten", {}
        else:
            kind, config = "Activation", {"activation": activation}
        yield {"class_name": kind, "config": {"name": f"{kind.lower()}_{number}", **config}}
