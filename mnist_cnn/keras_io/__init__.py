"""Between Keras's models and this project's checkpoints, both ways.

``import-keras`` turns a Keras model that is a chain of layers into a checkpoint, ``export-keras`` a
checkpoint into a Keras model. Neither needs Keras.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer
from torch import Tensor, nn

from mnist_cnn.checkpoints.atomic import AtomicCheckpointIO
from mnist_cnn.checkpoints.classifier import load_classifier
from mnist_cnn.checkpoints.files import (
    BUNDLED,
    read_checkpoint,
)
from mnist_cnn.checkpoints.run_folder import newest
from mnist_cnn.errors import OptionParser
from mnist_cnn.file_system.paths import user_path
from mnist_cnn.keras_io.files import KerasFileError, KerasModel, read, write
from mnist_cnn.keras_io.layers import spec_from_layers
from mnist_cnn.keras_io.layouts import like, to_keras, to_torch, variables, weighted
from mnist_cnn.keras_io.models import model_of
from mnist_cnn.keras_io.optimizers import KerasOptimizer
from mnist_cnn.keras_io.specs import make_net
from mnist_cnn.keras_io.weights_only import spec_from_weights
from mnist_cnn.model import MNISTClassifier
from mnist_cnn.nets.sequential import ACTIVATIONS

#: Adadelta's settings, here and in Keras.
SETTINGS = {"lr": "learning_rate", "rho": "rho", "eps": "epsilon"}


def import_keras(
    source: str | Path,
    checkpoint: str | Path,
    activation: str | None = None,
    tell: Callable[[str], None] = print,
) -> MNISTClassifier:
    """Turn a Keras model into a checkpoint that ``fit``, ``test`` and ``predict`` take.

    Args:
        source: A ``.keras``, ``.weights.h5`` or ``.h5`` file of a model, sequential or functional,
            that is a chain of layers with a counterpart in `SequentialCNN`, on images of shape
            (28, 28, 1), (28, 28) or (784,). A last softmax is left out: nets here give logits.
        checkpoint: Where to write; a folder that is not there is made. With the state of Adadelta,
            if the file has it, so that training goes on where Keras stopped; the epochs count
            from 0.
        activation: Of all layers but the last, for a ``.weights.h5``, which does not name it; relu
            by default.
        tell: Takes each line that says what was assumed, what is not imported, and how to go on.

    Returns:
        The model.

    Raises:
        KerasFileError: If the file cannot be read, or a layer is not supported.
        CheckpointError: If the checkpoint cannot be written.
    """
    keras = read(source)
    if keras.layers is not None and activation:
        raise KerasFileError(f"--activation {activation}: {source} says which activations it has")
    try:
        if keras.layers is None:
            spec, lines = spec_from_weights(keras, activation)
        else:
            spec, lines = spec_from_layers(keras.layers)
        model = MNISTClassifier(make_net(spec))
        trained = _fill(model.net, keras)
    except KerasFileError as error:
        raise KerasFileError(f"{source}: {error}") from error
    optimizer = model.configure_optimizers()
    lines += _fill_optimizer(optimizer, keras.optimizer, trained)
    save(model, optimizer, checkpoint)
    for line in lines:
        tell(line)
    return model


def _fill(net: nn.Module, keras: KerasModel) -> list[Tensor]:
    """Give a net the weights of a Keras model.

    Returns:
        Those that Keras trained.

    Raises:
        KerasFileError: If they are not those of the net.
    """
    layers = keras.layers or [{"config": {}}] * len(keras.weights)
    filled = [x for x in zip(layers, keras.weights, strict=True) if x[1]]
    ours: list[Tensor] = []
    theirs: list[Tensor] = []
    trained: list[Tensor] = []
    for module, (layer, arrays) in zip(weighted(net), filled, strict=False):
        config = layer["config"]
        tensors = variables(module, config.get("scale", True), config.get("center", True))
        ours += tensors
        theirs += [to_torch(array) for array in arrays]
        if config.get("trainable", True):
            trained += [tensor for tensor in tensors if isinstance(tensor, nn.Parameter)]
    shapes = [tuple(x.shape) for x in theirs]
    if len(weighted(net)) != len(filled) or shapes != [tuple(x.shape) for x in ours]:
        raise KerasFileError(f"the weights are not those of its layers: {shapes}")
    with torch.no_grad():
        for tensor, array in zip(ours, theirs, strict=True):
            tensor.copy_(array)
    return trained


def _fill_optimizer(optimizer: Any, keras: KerasOptimizer, trained: list[Tensor]) -> Iterator[str]:
    """Give Adadelta the settings and the state that a Keras file has of it.

    Yields:
        What of the optimizer is not imported, and how to train on, in lines.
    """
    yield from keras.losses()
    (group,) = optimizer.param_groups
    pairs = []
    if keras.is_adadelta:
        pairs = keras.accumulators([to_keras(weight).shape for weight in trained])
        found = keras.settings | {"learning_rate": keras.learning_rate}
        given = {ours: found.get(its) for ours, its in SETTINGS.items()}
        group |= (known := {name: float(x) for name, x in given.items() if x is not None})
    if not pairs:
        yield "The file has no state of Adadelta: training on begins with a fresh one."
        return
    for weight, (squares, updates) in zip(trained, pairs, strict=True):
        optimizer.state[weight] = {
            "step": torch.tensor(float(keras.iterations)),
            "square_avg": like(weight, squares),
            "acc_delta": like(weight, updates),
        }
    settings = " ".join(f"--model.optimizer.init_args.{k}={v:g}" for k, v in known.items())
    yield f"With the state of Adadelta; to train on as in Keras: fit --ckpt_path … {settings}"


def export_keras(checkpoint: str | Path, target: str | Path) -> None:
    """Write a checkpoint as a ``.keras`` file, compiled with Adadelta and its state.

    Args:
        checkpoint: Of one of this project's nets. With ``test_shifts`` the Keras model averages
            over the shifts too.
        target: Where to write; Keras wants the name to end in ``.keras``. A folder that is not
            there is made.

    Raises:
        CheckpointError: If the checkpoint cannot be read, or holds another net.
        UnwritableError: If the file cannot be written.
        UserError: If the net has no counterpart in Keras.
    """
    if not str(target).endswith(".keras"):
        raise KerasFileError(f"--out {target}: Keras wants the name to end in .keras")
    classifier, _ = load_classifier(checkpoint)
    model = model_of(classifier.net, classifier.test_shifts)
    optimizer = KerasOptimizer("Adadelta", {"rho": 0.95, "epsilon": 1e-7}, learning_rate=1.0)
    for saved in read_checkpoint(checkpoint).get("optimizer_states", []):
        states = [saved["state"][key] for key in sorted(saved["state"])]
        if states and all("acc_delta" in state for state in states):  # Adadelta's
            (group,) = saved["param_groups"]
            optimizer.settings = {"rho": group["rho"], "epsilon": group["eps"]}
            optimizer.learning_rate = group["lr"]
            optimizer.iterations = int(states[0]["step"])
            keys = ("square_avg", "acc_delta")
            optimizer.arrays = [to_keras(state[key]) for state in states for key in keys]
    write(target, model.entry, model.weights, optimizer)


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


def main(arguments: list[str]) -> None:
    """``mnist-cnn import-keras`` and ``mnist-cnn export-keras``."""
    parser = OptionParser(prog="mnist-cnn", description=__doc__.split("\n\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    into = commands.add_parser("import-keras", help="make a checkpoint of a Keras model")
    into.add_argument("model", type=user_path, help=".keras, .weights.h5 or .h5 file")
    into.add_argument(
        "--out", type=user_path, required=True, metavar="CKPT", help="checkpoint to write"
    )
    into.add_argument(
        "--activation",
        choices=list(ACTIVATIONS),
        help="between the layers of a .weights.h5, which does not name it (relu)",
    )
    out = commands.add_parser("export-keras", help="make a Keras model of a checkpoint")
    out.add_argument(
        "checkpoint",
        type=user_path,
        nargs="?",
        default=str(BUNDLED),
        help="of one of this project's nets, or last or best: the newest run's in tb_logs; by "
        "default the included model",
    )
    out.add_argument(
        "--out", type=user_path, required=True, metavar="KERAS", help=".keras file to write"
    )
    options = parser.parse_args(arguments)
    if options.command == "import-keras":
        model = import_keras(options.model, options.out, options.activation)
        weights = sum(parameter.numel() for parameter in model.parameters())
        print(f"{type(model.net).__name__}, {weights} weights")
    else:
        export_keras(newest(options.checkpoint), options.out)
    print(f"written: {options.out}")
