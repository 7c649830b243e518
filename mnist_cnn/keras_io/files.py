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
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnist_cnn.errors import UserError
from mnist_cnn.file_system.whole import write_whole
from mnist_cnn.keras_io.optimizers import KerasOptimizer, optimizer_of

Layer = dict[str, Any]  # {"class_name": "Conv2D", "config": {…}}


class KerasFileError(UserError):
    """The file is not one that this project can take; the message says why."""


@dataclass
class KerasModel:
    """What a Keras file holds of a model."""

    layers: list[Layer] | None  # in the order in which an image passes; None if it does not say
    weights: list[list[NDArray[Any]]]  # of each layer, in Keras's layouts
    groups: list[str] = field(default_factory=list)  # names of all layers, where `layers` is None
    optimizer: KerasOptimizer = field(default_factory=KerasOptimizer)


def read(path: str | Path) -> KerasModel:
    """Read a Keras file of any of the three kinds.

    Raises:
        KerasFileError: If the file is missing, damaged, or not of a Keras model that is a chain of
            layers.
    """
    h5py = _h5py()
    if (Path(path) / "saved_model.pb").exists():
        raise KerasFileError(
            f"{path} is a folder, TensorFlow's SavedModel; the Keras 2 that wrote it makes a file "
            f"of it: keras.models.load_model({str(path)!r}).save('model.h5')"
        )
    if Path(path).is_dir():
        raise KerasFileError(f"{path} is a folder; name a .keras, .weights.h5 or .h5 file")
    if not Path(path).is_file():
        raise KerasFileError(f"{path}: there is no such file")
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                config = json.loads(archive.read("config.json"))
                content = io.BytesIO(archive.read("model.weights.h5"))
            compiled = (config.get("compile_config") or {}).get("optimizer")
            with h5py.File(content) as file:
                return _from_weights(file, _layers(config, path), compiled)
        with h5py.File(path) as file:
            if "model_config" in file.attrs:
                return _from_legacy(file, path)
            if "layers" in file or "_layer_checkpoint_dependencies" in file:
                return _from_weights(file, None, None)
    except (OSError, KeyError, json.JSONDecodeError, zipfile.BadZipFile, EOFError) as error:
        raise KerasFileError(f"{path} is damaged, or not a Keras model: {error}") from error
    raise KerasFileError(f"{path} is an HDF5 file, but not of a Keras model")


def write(path: str | Path, model: Layer, weights: list[Any], optimizer: KerasOptimizer) -> None:
    """Write a ``.keras`` file, in one step: a file that is there stays until the new one is whole.

    Args:
        path: Where to write; a folder that is not there is made.
        model: Class and settings, with the layers, as ``config.json`` has them.
        weights: Of each layer, in Keras's layouts; of a model among them, the like of this.
        optimizer: What the model is compiled with.

    Raises:
        UnwritableError: If the file cannot be written.
    """
    h5py = _h5py()
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        _write_layers(file, model["config"]["layers"], weights)
        state = file.create_group("optimizer/vars")
        state["0"] = np.int64(optimizer.iterations)
        state["1"] = np.float32(optimizer.learning_rate)
        for i, array in enumerate(optimizer.arrays, start=2):
            state[str(i)] = array
    settings = {"name": optimizer.name.lower(), "learning_rate": optimizer.learning_rate}
    compiled = {
        "optimizer": described("keras.optimizers", optimizer.name, settings | optimizer.settings),
        "loss": "categorical_crossentropy",
        "metrics": ["accuracy"],
    }

    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w") as archive:
        archive.writestr("metadata.json", json.dumps({"keras_version": KERAS_FORMAT}))
        archive.writestr("config.json", json.dumps(model | {"compile_config": compiled}))
        archive.writestr("model.weights.h5", content.getvalue())
    write_whole(path, whole.getbuffer())


KERAS_FORMAT = "3.15.1"  # the version whose format is written


def described(module: str, class_name: str, config: dict[str, Any]) -> Layer:
    """An object of Keras's as it stands in a configuration."""
    return {"module": module, "class_name": class_name, "config": config, "registered_name": None}


def _write_layers(group: Any, layers: list[Layer], weights: list[Any]) -> None:
    """Write the weights of layers, and of those of models among them."""
    group.create_group("vars")
    for layer, name, own in zip(layers, _group_names(layers), weights, strict=True):
        place = group.create_group(f"layers/{name}")
        if "layers" in layer["config"]:
            _write_layers(place, layer["config"]["layers"], own)
            continue
        variables = place.create_group("vars")
        variables.attrs["name"] = layer["config"]["name"]
        for i, array in enumerate(own):
            variables[str(i)] = array


def _group_names(layers: list[Layer]) -> list[str]:
    """Keras's names of the layers' groups: classes in snake case, numbered from the second."""
    names: list[str] = []
    seen: dict[str, int] = {}
    for layer in layers:
        name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", layer["class_name"]).lower()
        number = seen[name] = seen.get(name, -1) + 1
        names.append(f"{name}_{number}" if number else name)
    return names


def _layers(model: dict[str, Any], path: str | Path) -> list[Layer]:
    """The layers of a model, as its configuration lists them."""
    kind, config = model.get("class_name"), model["config"]
    if kind in ("Functional", "Model"):  # Model: the first versions of Keras 2
        _check_is_chain(config, path)
        return config["layers"]
    if kind != "Sequential":
        raise KerasFileError(
            f"{path} holds a {kind} model; only Sequential and functional ones can be imported"
        )
    if isinstance(config, list):  # the first versions of Keras 2
        return config
    shape = config.get("build_input_shape")  # all that Keras 2 says of one made without an input
    given = {"class_name": "InputLayer", "config": {"name": "input", "batch_shape": shape}}
    return [*[given] * bool(shape), *config["layers"]]


def _check_is_chain(config: dict[str, Any], path: str | Path) -> None:
    """Refuse a functional model whose layers, as they are listed, do not follow each other."""
    before = None
    for layer in config["layers"]:
        name, nodes = layer["name"], layer["inbound_nodes"]
        inputs = [list(_inputs(node)) for node in nodes]
        if inputs != ([] if before is None else [[before]]):
            raise KerasFileError(
                f"{path}: layer {name} ({layer['class_name']}) does not take what the layer "
                "before it gives, and that alone; only chains of layers can be imported"
            )
        before = name
    if before not in (outputs := list(_inputs(config["output_layers"]))) or len(outputs) != 1:
        raise KerasFileError(f"{path} has several outputs: {', '.join(outputs)}")


def _inputs(node: Any) -> Iterator[str]:
    """The names of the layers whose outputs a part of a functional model's graph refers to."""
    if isinstance(node, dict):
        if "keras_history" in node:  # Keras 3
            yield node["keras_history"][0]
        else:
            for value in node.values():
                yield from _inputs(value)
    elif isinstance(node, (list, tuple)):
        if len(node) in (3, 4) and isinstance(node[0], str) and isinstance(node[1], int):
            yield node[0]  # Keras 2; name, which of its calls, which of its outputs, arguments
        else:
            for value in node:
                yield from _inputs(value)


def _from_weights(file: Any, layers: list[Layer] | None, compiled: Any) -> KerasModel:
    groups = file["layers"] if "layers" in file else file["_layer_checkpoint_dependencies"]
    if layers is None:
        names = sorted(groups, key=lambda name: (kind_of(name), _number(name)))
    else:
        names = _group_names(layers)
    state = file.get("optimizer/inner_optimizer/vars", file.get("optimizer/vars", {}))
    if state and not compiled:
        compiled = kind_of(_text(state.attrs.get("name", "")))
    return KerasModel(
        layers=layers,
        weights=[_variables(groups[name]["vars"]) if name in groups else [] for name in names],
        groups=names,
        optimizer=optimizer_of(compiled, _variables(state)),
    )


def _variables(group: Any) -> list[NDArray[Any]]:
    return [_array(group[str(i)]) for i in range(len(group))]


def _array(dataset: Any) -> NDArray[Any]:
    array = np.asarray(dataset)
    if array.dtype.kind == "V":  # bfloat16, which NumPy does not know: the first half of a float32
        array = (array.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    return array


def _from_legacy(file: Any, path: str | Path) -> KerasModel:
    layers = _layers(json.loads(file.attrs["model_config"]), path)
    root = file["model_weights"]

    def arrays(group: Any) -> list[NDArray[Any]]:
        return [_array(group[_text(name)]) for name in group.attrs["weight_names"]]

    names = [layer["config"].get("name") for layer in layers]
    state = arrays(file["optimizer_weights"]) if "optimizer_weights" in file else []
    training = json.loads(file.attrs.get("training_config") or "{}")
    return KerasModel(
        layers=layers,
        weights=[arrays(root[name]) if name in root else [] for name in names],
        optimizer=optimizer_of(training.get("optimizer_config"), state),
    )


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
