"""The file formats of Keras, read and written without Keras: ``.keras``, ``.weights.h5``, ``.h5``.

A ``.keras`` file (Keras 3) is a zip of ``config.json``, which lists the layers, and
``model.weights.h5``; the latter also exists on its own. The old ``.h5`` (Keras 2 and 3) holds the
layers as JSON and the weights by name. None of them needs code to be read.

Source: ``keras.src.saving.saving_lib`` and ``keras.src.legacy.saving.legacy_h5_format``, 3.15.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnist_cnn.errors import UserError
from mnist_cnn.whole_files import write_whole

Array = NDArray[np.float32]
Layer = dict[str, Any]  # {"class_name": "Conv2D", "config": {…}}


class KerasFileError(UserError):
    """The file is not one that this project can take; the message says why."""


@dataclass
class KerasModel:
    """What a Keras file holds of a sequential model."""

    layers: list[Layer] | None  # in order, without the input; None if the file does not say
    weights: list[list[Array]]  # of each layer that has any, in Keras's layouts
    groups: list[str] = field(default_factory=list)  # names of all layers, where `layers` is None
    adadelta: list[Array] | None = None  # squared gradients and updates, after each other
    optimizer: dict[str, Any] = field(default_factory=dict)  # its configuration
    iterations: int = 0  # training steps behind the model


def read(path: str | Path) -> KerasModel:
    """Read a Keras file of any of the three kinds.

    Raises:
        KerasFileError: If the file is missing, damaged, or not a sequential Keras model.
    """
    h5py = _h5py()
    if not Path(path).is_file():
        raise KerasFileError(f"{path}: there is no such file")
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                config = json.loads(archive.read("config.json"))
                content = io.BytesIO(archive.read("model.weights.h5"))
            layers = _layers(config, path)
            compiled = (config.get("compile_config") or {}).get("optimizer") or {}
            with h5py.File(content) as file:
                return _from_weights(file, layers, compiled)
        with h5py.File(path) as file:
            if "model_config" in file.attrs:
                return _from_legacy(file, path)
            if "layers" in file or "_layer_checkpoint_dependencies" in file:
                return _from_weights(file, None, {})
    except (OSError, KeyError, json.JSONDecodeError, zipfile.BadZipFile, EOFError) as error:
        raise KerasFileError(f"{path} is damaged, or not a Keras model: {error}") from error
    raise KerasFileError(f"{path} is an HDF5 file, but not of a Keras model")


def write(path: str | Path, model: KerasModel) -> None:
    """Write a ``.keras`` file, in one step: a file that is there stays until the new one is whole.

    Raises:
        UnwritableError: If the file cannot be written.
    """
    h5py = _h5py()
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        weights = iter(model.weights)
        for layer, group in zip(model.layers or [], _group_names(model.layers or []), strict=True):
            variables = file.create_group(f"layers/{group}/vars")
            variables.attrs["name"] = layer["config"]["name"]
            if layer["class_name"] in WEIGHTED:
                for i, array in enumerate(next(weights)):
                    variables[str(i)] = array
        file.create_group("vars")
        optimizer = file.create_group("optimizer/vars")
        optimizer["0"] = np.int64(model.iterations)
        optimizer["1"] = np.float32(model.optimizer["learning_rate"])
        for i, array in enumerate(model.adadelta or [], start=2):
            optimizer[str(i)] = array

    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w") as archive:
        archive.writestr("metadata.json", json.dumps({"keras_version": KERAS_FORMAT}))
        archive.writestr("config.json", json.dumps(_config(model)))
        archive.writestr("model.weights.h5", content.getvalue())
    write_whole(path, whole.getbuffer())


WEIGHTED = ("Conv2D", "Dense")
KERAS_FORMAT = "3.15.1"  # the version whose format is written


def _config(model: KerasModel) -> dict[str, Any]:
    def entry(module: str, class_name: str, config: dict[str, Any]) -> dict[str, Any]:
        return {
            "module": module,
            "class_name": class_name,
            "config": config,
            "registered_name": None,
        }

    shape = [None, 28, 28, 1]
    image = entry("keras.layers", "InputLayer", {"batch_shape": shape, "name": "image"})
    layers = [entry("keras.layers", x["class_name"], x["config"]) for x in model.layers or []]
    config = {"name": "mnist_cnn", "trainable": True, "layers": [image, *layers]}
    return entry("keras", "Sequential", config) | {
        "build_config": {"input_shape": shape},
        "compile_config": {
            "optimizer": entry("keras.optimizers", "Adadelta", model.optimizer),
            "loss": "categorical_crossentropy",
            "metrics": ["accuracy"],
        },
    }


def _group_names(layers: list[Layer]) -> list[str]:
    """Keras's names of the layers' groups: classes in snake case, numbered from the second."""
    names: list[str] = []
    seen: dict[str, int] = {}
    for layer in layers:
        name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", layer["class_name"]).lower()
        number = seen[name] = seen.get(name, -1) + 1
        names.append(f"{name}_{number}" if number else name)
    return names


def _layers(config: dict[str, Any], path: str | Path) -> list[Layer]:
    if config.get("class_name") != "Sequential":
        kind = config.get("class_name")
        raise KerasFileError(f"{path} holds a {kind} model; only Sequential ones can be imported")
    layers = config["config"]
    if isinstance(layers, dict):  # a plain list in the first versions of Keras 2
        layers = layers["layers"]
    return layers


def _from_weights(file: Any, layers: list[Layer] | None, optimizer: dict[str, Any]) -> KerasModel:
    groups = file["layers"] if "layers" in file else file["_layer_checkpoint_dependencies"]

    def weights(name: str) -> list[Array]:
        variables = groups[name]["vars"] if name in groups else {}
        return [np.asarray(variables[str(i)], np.float32) for i in range(len(variables))]

    if layers is None:
        names = sorted(groups, key=lambda name: (kind_of(name), _number(name)))
    else:
        names = _group_names([x for x in layers if x["class_name"] != "InputLayer"])
    state = file.get("optimizer/vars", {})
    arrays = [np.asarray(state[str(i)]) for i in range(len(state))]
    if state and not optimizer:
        optimizer = {"class_name": _text(state.attrs.get("name", ""))}
    return KerasModel(
        layers=layers,
        weights=[layer for name in names if (layer := weights(name))],
        groups=names,
        adadelta=_adadelta(arrays),
        optimizer=_optimizer_config(optimizer, arrays),
        iterations=int(arrays[0]) if arrays else 0,
    )


def _from_legacy(file: Any, path: str | Path) -> KerasModel:
    layers = _layers(json.loads(file.attrs["model_config"]), path)
    root = file["model_weights"]

    def arrays(group: Any) -> list[NDArray[Any]]:
        return [np.asarray(group[_text(name)]) for name in group.attrs["weight_names"]]

    weights = [arrays(root[_text(name)]) for name in root.attrs["layer_names"]]
    state = arrays(file["optimizer_weights"]) if "optimizer_weights" in file else []
    training = json.loads(file.attrs.get("training_config") or "{}")
    return KerasModel(
        layers=layers,
        weights=[[np.asarray(a, np.float32) for a in layer] for layer in weights if layer],
        adadelta=_adadelta(state),
        optimizer=_optimizer_config(training.get("optimizer_config") or {}, state),
        iterations=int(state[0]) if state and state[0].ndim == 0 else 0,
    )


def _adadelta(arrays: list[NDArray[Any]]) -> list[Array] | None:
    """The accumulators among the variables of an optimizer: all that are not single numbers.

    Keras 3 saves the two of each weight after each other; Keras 2 first one of all weights, then
    the other of all.
    """
    state = [np.asarray(array, np.float32) for array in arrays if array.ndim]
    if not state or len(state) % 2:
        return None
    half = len(state) // 2
    if all(a.shape == b.shape for a, b in zip(state[::2], state[1::2], strict=True)):
        return state
    return [array for pair in zip(state[:half], state[half:], strict=True) for array in pair]


def _optimizer_config(entry: dict[str, Any], arrays: list[NDArray[Any]]) -> dict[str, Any]:
    config = dict(entry.get("config") or {})
    config["class_name"] = (entry.get("class_name") or "").rpartition(">")[2]  # Custom>Adadelta
    if len(arrays) > 1 and arrays[1].ndim == 0:  # as it was last, whatever a schedule said
        config["learning_rate"] = float(arrays[1])
    return config


def kind_of(name: str) -> str:
    """The kind of layer that a group's name says: ``conv2d_1`` is a ``conv2d``."""
    return re.sub(r"_\d+$", "", name)


def _number(name: str) -> int:
    match = re.search(r"_(\d+)$", name)
    return int(match[1]) if match else 0


def _text(name: str | bytes) -> str:
    return name.decode() if isinstance(name, bytes) else name


def _h5py() -> Any:
    try:
        import h5py
    except ImportError:
        raise KerasFileError(
            "Keras's files are read and written by h5py: pip install h5py"
        ) from None
    return h5py
