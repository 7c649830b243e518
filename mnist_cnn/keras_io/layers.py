"""Keras's layers as a spec: the list of layers that `SequentialCNN` takes."""

from __future__ import annotations

import math
from typing import Any

from mnist_cnn.keras_io.files import KerasFileError, Layer
from mnist_cnn.keras_io.specs import GLOBAL_POOLS, POOLS, WEIGHTED, Spec
from mnist_cnn.nets.sequential import ACTIVATIONS

INPUTS = ([28, 28, 1], [28, 28], [784])
#: A first Rescaling by less is of pixels from 0 to 255.
LEAST_SCALE = 1 / 25
#: Layers that leave the pixels of an image in their places.
PIXEL_BY_PIXEL = ("Reshape", "Rescaling", "Dropout", "Activation", "ReLU")
#: How settings end that change training alone, and have no counterpart here.
FOR_TRAINING = ("_regularizer", "_constraint")


def spec_from_layers(layers: list[Layer]) -> tuple[Spec, list[str]]:
    """Translate Keras's layers; refuse by name what has no counterpart.

    Returns:
        The spec, and lines that say what was assumed, and what is not imported.

    Raises:
        KerasFileError: If a layer, or an option of one, is not supported.
    """
    chain = Chain()
    for layer in layers:
        kind, config = layer["class_name"], layer["config"]
        try:
            chain.add(kind, config)
        except KerasFileError as error:
            raise KerasFileError(f"layer {config.get('name')} ({kind}): {error}") from None
    spec = chain.spec
    if spec and spec[-1].get("activation") == "softmax":  # the loss has it
        if set(spec[-1]) == {"activation"}:
            spec.pop()
        else:
            del spec[-1]["activation"]
    if spec and "activation" in spec[-1]:
        name, activation = layers[-1]["config"].get("name"), spec[-1]["activation"]
        raise KerasFileError(
            f"layer {name}: the last activation must be softmax, or none; it is {activation}"
        )
    return spec, chain.lines


class Chain:
    """Keras's layers as a spec, one after the other.

    Attributes:
        spec: Those so far.
        rank: How many axes their output has in Keras, the images' not counted.
        is_flat: Whether its counterpart here has one axis.
        is_image: Whether it has the pixels of the image, in their places.
        lines: What was assumed, and what is not imported.
    """

    def __init__(self) -> None:
        self.spec: Spec = []
        self.rank = 3
        self.is_flat = False
        self.is_image = True
        self.lines: list[str] = []

    def add(self, kind: str, config: dict[str, Any]) -> None:
        """Add a layer.

        Raises:
            KerasFileError: If it, or an option of it, is not supported.
        """
        if shape := config.get("batch_shape") or config.get("batch_input_shape"):
            self._take(list(shape[1:]))
        if self.spec and self.spec[-1].get("activation") == "softmax":
            raise KerasFileError("comes after a softmax; supported is one at the end only")
        _expect(config, data_format=("channels_last", None))
        if kind == "InputLayer":
            return
        if kind == "Reshape":
            self._reshape(list(config["target_shape"]))
        elif kind == "Flatten":
            self._flatten()
        elif kind == "Rescaling":
            self._rescale(config["scale"], config.get("offset") or 0)
        else:
            self._need_axes(kind, config)
            self.spec += _translate(kind, config)
        lost = [name for name in config if name.endswith(FOR_TRAINING) and config[name]]
        if kind in WEIGHTED and not config.get("trainable", True):
            lost.append("trainable=False")
        if lost:
            self.lines.append(f"Not imported, of layer {config['name']}: {', '.join(lost)}.")
        self.is_image = self.is_image and kind in PIXEL_BY_PIXEL

    def _take(self, shape: list[int | None]) -> None:
        """Begin with an input of a shape."""
        if shape not in INPUTS:
            known = ", ".join(str(tuple(known)) for known in INPUTS)
            raise KerasFileError(
                f"input of shape {tuple(shape)}; only images of one of the shapes {known} are "
                "supported"
            )
        self.rank = len(shape)

    def _reshape(self, target: list[int]) -> None:
        known = math.prod(n for n in target if n != -1)
        shape = [784 // known if n == -1 else n for n in target]
        if self.is_image and shape in INPUTS:
            self.rank = len(shape)
        elif len(target) == 1:
            self._flatten()
        else:
            raise KerasFileError(
                f"target_shape={tuple(target)} is not supported; only from one form of an image of "
                "28×28 pixels to another, and to a row"
            )

    def _flatten(self) -> None:
        if not self.is_flat:
            self.spec.append({"flatten": True})
        self.rank, self.is_flat, self.is_image = 1, True, False

    def _rescale(self, scale: Any, offset: Any) -> None:
        if not all(isinstance(n, (int, float)) for n in (scale, offset)):
            raise KerasFileError(f"scale={scale}, offset={offset} are not supported, but a number")
        if self.is_image and not self.spec and abs(scale) < LEAST_SCALE:
            scale *= 255  # a net here is given bytes divided by 255
            self.lines.append("Assumed, since Rescaling is first: pixels from 0 to 255 in Keras.")
        if not (math.isclose(scale, 1, rel_tol=1e-6) and offset == 0):
            self.spec.append({"rescale": scale} | ({"offset": offset} if offset else {}))

    def _need_axes(self, kind: str, config: dict[str, Any]) -> None:
        """See that a layer gets axes that it is supported with."""
        wanted = {"Dense": (1,), "BatchNormalization": (1, 3)}.get(kind, (self.rank,))
        if kind.endswith("2D"):
            wanted = (3,)
        if self.rank not in wanted:
            raise KerasFileError(
                f"is not supported with an input of {self.rank} axes, the images' not counted"
            )
        if kind == "BatchNormalization":
            _expect(config, axis=(-1, [-1], self.rank, [self.rank]))
        if kind in ("Dense", "BatchNormalization") and self.rank == 1:
            self._flatten()
        if kind.startswith("Global"):
            self.rank, self.is_flat = 1, True


def _translate(kind: str, config: dict[str, Any]) -> Spec:
    """One Keras layer; numbers and words that equal a default are left out."""
    if kind == "Conv2D":
        _expect(config, dilation_rate=([1, 1], (1, 1), 1), groups=(1,))
        layer: dict[str, Any] = {"conv": config["filters"], "kernel": list(config["kernel_size"])}
        return [layer | _window(config, [1, 1]) | _options(config)]
    if kind == "Dense":
        return [{"dense": config["units"]} | _options(config)]
    if kind in POOLS:
        size = list(config["pool_size"])
        return [{POOLS[kind]: size} | _window(config, size)]
    if kind in GLOBAL_POOLS:
        _expect(config, keepdims=(False,))
        return [{"global_pool": GLOBAL_POOLS[kind]}]
    if kind == "BatchNormalization":
        _expect(config, renorm=(False,))
        defaults = {"momentum": 0.99, "epsilon": 1e-3}
        given = {k: config[k] for k, v in defaults.items() if config.get(k, v) != v}
        return [{"batch_norm": True} | given]
    if kind == "Dropout":
        _expect(config, noise_shape=(None,))
        return [{"dropout": config["rate"]}] if config["rate"] else []
    if kind == "ReLU":
        _expect(config, max_value=(None,), negative_slope=(0, 0.0), threshold=(0, 0.0))
        return [{"activation": "relu"}]
    if kind == "Softmax":
        _expect(config, axis=(-1,))
        return [{"activation": "softmax"}]
    if kind == "Activation":
        return [_options(config)] if _options(config) else []
    raise KerasFileError("this kind of layer is not supported")


def _window(config: dict[str, Any], default: list[int]) -> dict[str, Any]:
    """Steps and padding of a convolution or a pooling."""
    _expect(config, padding=("valid", "same"))
    stride, padding = list(config.get("strides") or default), config.get("padding", "valid")
    options: dict[str, Any] = {} if stride == default else {"stride": stride}
    return options if padding == "valid" else options | {"padding": padding}


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
