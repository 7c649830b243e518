"""The layers of a Keras file that holds weights only, guessed where they leave no choice."""

from __future__ import annotations

from typing import Any

from mnist_cnn.keras_io.files import KerasFileError, KerasModel, kind_of
from mnist_cnn.keras_io.specs import Spec

KNOWN = {"conv2d", "dense", "max_pooling2d", "dropout", "flatten", "input_layer", "softmax"}


def spec_from_weights(keras: KerasModel, activation: str | None) -> tuple[Spec, list[str]]:
    """Guess the layers from a file that has weights only, where they leave no choice.

    Such a file names the kinds of layers and gives the kernels' shapes, but neither their order
    nor their options. Taken for granted: the order of the classic stack (convolutions, one
    pooling of 2×2, dense layers) and KerasCNN's rates of dropout.

    Args:
        keras: The file.
        activation: Of all layers but the last; None: relu is assumed.

    Returns:
        The spec, and lines that say what was assumed.

    Raises:
        KerasFileError: If the shapes do not agree with that.
    """
    kinds = [kind_of(name) for name in keras.groups]
    layers = [layer for layer in keras.weights if layer]
    convs = [layer for layer in layers if layer[0].ndim == 4]
    dense = [layer for layer in layers if layer[0].ndim == 2]
    drops, pools = kinds.count("dropout"), kinds.count("max_pooling2d")
    side = 28
    for kernel, *_ in convs:
        side -= kernel.shape[0] - 1
    side //= 2 if pools else 1
    if (
        not dense
        or not set(kinds) <= KNOWN
        or pools > 1
        or drops > 2
        or dense[0][0].shape[0] != side * side * (convs[-1][0].shape[3] if convs else 1)
    ):
        raise KerasFileError(
            "weights alone do not say how these layers follow each other; "
            "save the whole model from Keras: model.save('model.keras')"
        )

    def options(layer: list[Any]) -> dict[str, Any]:
        return {"bias": False} if len(layer) == 1 else {}

    assumed = [] if activation else ["relu between the layers (--activation names another)"]
    assumed += ["KerasCNN's rates of dropout"] * (drops > 0)
    between = {} if activation == "linear" else {"activation": activation or "relu"}
    spec: Spec = [
        {"conv": x[0].shape[3], "kernel": list(x[0].shape[:2])} | between | options(x)
        for x in convs
    ]
    spec += [{"max_pool": [2, 2]}] * pools
    spec += [{"dropout": 0.25}] * (drops == 2) + [{"flatten": True}]
    spec += [{"dense": x[0].shape[1]} | between | options(x) for x in dense[:-1]]
    last = {"dense": dense[-1][0].shape[1]} | options(dense[-1])
    spec += [*[{"dropout": 0.5}] * (drops > 0), last]
    return spec, [f"Assumed, since the file does not say: {what}." for what in assumed]
