"""Between Keras's models and this project's checkpoints, both ways.

``import-keras`` turns a sequential Keras model into a checkpoint, ``export-keras`` the reverse.
Neither needs Keras. Layouts: Keras keeps a convolution's kernel as (H, W, in, out) and a dense one
as (in, out); torch as (out, in, H, W) and (out, in). The rows of the first dense kernel count
rows, columns, channels on both sides, since the nets here flatten as Keras does.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer
from torch import Tensor

from mnist_cnn.checkpoints.files import (
    AtomicCheckpointIO,
    CheckpointError,
    described_model,
    read_checkpoint,
)
from mnist_cnn.keras_io.files import Array, KerasFileError, KerasModel, read, write
from mnist_cnn.keras_io.layers import (
    Spec,
    layers_from_spec,
    make_net,
    spec_from_layers,
    spec_from_weights,
    spec_of,
)
from mnist_cnn.model import MNISTClassifier


def import_keras(source: str | Path, checkpoint: str | Path) -> MNISTClassifier:
    """Turn a Keras model into a checkpoint that ``fit``, ``test`` and ``predict`` take.

    Args:
        source: A ``.keras``, ``.weights.h5`` or ``.h5`` file of a sequential model of Conv2D,
            MaxPooling2D, Dropout, Flatten, Dense, Activation, ReLU and Softmax layers on images
            of shape (28, 28, 1). A last softmax is left out: nets here give logits.
        checkpoint: Where to write. With the state of Adadelta, if the file has it, so that
            training goes on where Keras stopped; the epochs count from 0.

    Returns:
        The model.

    Raises:
        KerasFileError: If the file cannot be read, or a layer is not supported.
    """
    keras = read(source)
    spec = spec_from_weights(keras) if keras.layers is None else spec_from_layers(keras.layers)
    try:
        model = MNISTClassifier(make_net(spec))
    except ValueError as error:
        raise KerasFileError(f"{source}: {error}") from error
    arrays = [array for layer in keras.weights for array in layer]
    parameters = list(model.parameters())
    shapes = [tuple(to_torch(array).shape) for array in arrays]
    if shapes != [tuple(p.shape) for p in parameters]:
        raise KerasFileError(f"{source}: the weights are not those of its layers: {shapes}")
    with torch.no_grad():
        for parameter, array in zip(parameters, arrays, strict=True):
            parameter.copy_(to_torch(array))

    optimizer = model.configure_optimizers()
    if keras.optimizer.get("class_name", "").lower() == "adadelta":
        names = {"lr": "learning_rate", "rho": "rho", "eps": "epsilon"}
        (group,) = optimizer.param_groups
        group |= {ours: keras.optimizer.get(its, group[ours]) for ours, its in names.items()}
        for weight, squares, updates in _accumulators(keras, parameters):
            optimizer.state[weight] = {
                "step": torch.tensor(float(keras.iterations)),
                "square_avg": like(weight, squares),
                "acc_delta": like(weight, updates),
            }
    save(model, optimizer, checkpoint)
    return model


def export_keras(checkpoint: str | Path, target: str | Path) -> None:
    """Write a checkpoint as a ``.keras`` file, compiled with Adadelta and its state.

    Args:
        checkpoint: Of one of this project's nets.
        target: Where to write; Keras wants the name to end in ``.keras``.

    Raises:
        CheckpointError: If the checkpoint cannot be read, or holds another net.
        UnwritableError: If the file cannot be written.
    """
    if not str(target).endswith(".keras"):
        raise KerasFileError(f"--out {target}: Keras wants the name to end in .keras")
    content = read_checkpoint(checkpoint)
    described = described_model(content)
    if described is None:
        raise CheckpointError(f"checkpoint {checkpoint} does not hold a net of this project")
    spec = spec_of(described["net"])
    weights = [to_keras(v) for name, v in content["state_dict"].items() if name.startswith("net.")]
    model = KerasModel(
        layers=list(layers_from_spec(spec)),
        weights=list(_by_layer(weights, spec)),
        optimizer={"name": "adadelta", "learning_rate": 1.0, "rho": 0.95, "epsilon": 1e-7},
    )
    for optimizer in content.get("optimizer_states", []):
        states = [optimizer["state"][key] for key in sorted(optimizer["state"])]
        if states and all("acc_delta" in state for state in states):  # Adadelta's
            (group,) = optimizer["param_groups"]
            model.optimizer |= {
                "learning_rate": group["lr"],
                "rho": group["rho"],
                "epsilon": group["eps"],
            }
            model.iterations = int(states[0]["step"])
            keys = ("square_avg", "acc_delta")
            model.adadelta = [to_keras(state[key]) for state in states for key in keys]
    write(target, model)


def _accumulators(
    keras: KerasModel, parameters: Sequence[Tensor]
) -> Iterator[tuple[Tensor, Array, Array]]:
    """Each parameter with Adadelta's two; nothing if the file does not have them."""
    state = keras.adadelta or []
    shapes = [tuple(to_torch(array).shape) for array in state]
    if shapes == [tuple(p.shape) for p in parameters for _ in range(2)]:
        yield from zip(parameters, state[::2], state[1::2], strict=True)


def to_torch(array: Array) -> Tensor:
    """An array of Keras's in torch's layout: its axes with the last ones first."""
    axes = {4: (3, 2, 0, 1), 2: (1, 0)}.get(array.ndim, tuple(range(array.ndim)))
    return torch.from_numpy(array.transpose(axes).copy())


def to_keras(tensor: Tensor) -> Array:
    """The reverse of `to_torch`."""
    array = tensor.detach().float().numpy()
    axes = {4: (2, 3, 1, 0), 2: (1, 0)}.get(array.ndim, tuple(range(array.ndim)))
    return array.transpose(axes).copy()


def like(parameter: Tensor, array: Array) -> Tensor:
    """An array of Keras's in the layout and memory format of a parameter."""
    return torch.empty_like(parameter, requires_grad=False).copy_(to_torch(array))


def _by_layer(weights: list[Array], spec: Spec) -> Iterator[list[Array]]:
    """Weights one after the other, as the kernel and the bias of each layer that has any."""
    rest = iter(weights)
    for layer in spec:
        if "conv" in layer or "dense" in layer:
            yield [next(rest) for _ in range(1 + layer.get("bias", True))]


def save(model: MNISTClassifier, optimizer: Any, path: str | Path) -> None:
    """Write an ordinary checkpoint of a model that no trainer has trained, in one step."""
    trainer = Trainer(
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.strategy.connect(model)
    trainer.strategy.optimizers = [optimizer]
    trainer.strategy.checkpoint_io = AtomicCheckpointIO()
    trainer.save_checkpoint(path)


def notes(checkpoint: str | Path) -> list[str]:
    """What a person should know of an imported checkpoint to train on with it."""
    (state,) = read_checkpoint(checkpoint)["optimizer_states"]
    (group,) = state["param_groups"]
    if not state["state"]:
        return ["The file has no state of Adadelta: training on begins with a fresh one."]
    settings = " ".join(
        f"--model.optimizer.init_args.{k}={group[k]:g}" for k in ("lr", "rho", "eps")
    )
    return [f"With the state of Adadelta; to train on as in Keras: fit --ckpt_path … {settings}"]


def main(arguments: list[str]) -> None:
    """``mnist-cnn import-keras`` and ``mnist-cnn export-keras``."""
    parser = argparse.ArgumentParser(prog="mnist-cnn", description=__doc__.split("\n\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    into = commands.add_parser("import-keras", help="make a checkpoint of a Keras model")
    into.add_argument("model", help=".keras, .weights.h5 or .h5 file")
    into.add_argument("--out", required=True, metavar="CKPT", help="checkpoint to write")
    out = commands.add_parser("export-keras", help="make a Keras model of a checkpoint")
    out.add_argument("checkpoint", help="checkpoint of one of this project's nets")
    out.add_argument("--out", required=True, metavar="KERAS", help=".keras file to write")
    options = parser.parse_args(arguments)
    if options.command == "import-keras":
        model = import_keras(options.model, options.out)
        weights = sum(parameter.numel() for parameter in model.parameters())
        print(f"{type(model.net).__name__}, {weights} weights")
        print(*notes(options.out), sep="\n")
    else:
        export_keras(options.checkpoint, options.out)
    print(f"written: {options.out}")
