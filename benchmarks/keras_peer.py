"""The published Keras run, in real Keras: the peer of ``compare_keras.py`` and ``epoch.py``.

    python benchmarks/keras_peer.py --seed 1 --epochs 12 --raw data/MNIST/raw

Needs keras and a backend of it, and numpy; nothing of this project. Prints a JSON line an epoch
(seconds of the training, train_s, and with the validation, s; loss, accuracy, val_loss,
val_accuracy), after one with the versions.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np


def read_idx(path: Path) -> np.ndarray:
    """An array of unsigned bytes in the IDX format."""
    content = path.read_bytes()
    ndim = content[3]
    shape = np.frombuffer(content, dtype=">u4", count=ndim, offset=4)
    return np.frombuffer(content, dtype=np.uint8, offset=4 + 4 * ndim).reshape(shape)


class Lines(keras.callbacks.Callback):
    """Prints an epoch's figures as a JSON line."""

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self.start = time.perf_counter()

    def on_test_begin(self, logs: dict[str, float] | None = None) -> None:
        self.train_s = time.perf_counter() - self.start

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        seconds = {"train_s": self.train_s, "s": time.perf_counter() - self.start}
        print(json.dumps({"epoch": epoch + 1, **seconds, **(logs or {})}), flush=True)


def main() -> None:
    """Train and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--raw", type=Path, default=Path("data/MNIST/raw"))
    parser.add_argument("--steps", type=int, help="of an epoch, and of its validation")
    parser.add_argument(
        "--warm-up",
        action="store_true",
        help="let Keras trace its functions before the clock starts, on two batches whose effect "
        "is undone",
    )
    args = parser.parse_args()
    keras.utils.set_random_seed(args.seed)

    x_train, y_train, x_test, y_test = (
        read_idx(args.raw / name)
        for name in (
            "train-images-idx3-ubyte",
            "train-labels-idx1-ubyte",
            "t10k-images-idx3-ubyte",
            "t10k-labels-idx1-ubyte",
        )
    )
    x_train, x_test = (x[..., None].astype("float32") / 255 for x in (x_train, x_test))
    y_train, y_test = (keras.utils.to_categorical(y, 10) for y in (y_train, y_test))
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(32, 3, activation="relu"),
            layers.Conv2D(64, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Dropout(0.25),
            layers.Flatten(),
            layers.Dense(128, activation="relu"),
            layers.Dropout(0.5),
            layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile(
        loss="categorical_crossentropy",
        optimizer=keras.optimizers.Adadelta(learning_rate=1.0),
        metrics=["accuracy"],
    )
    versions = {"keras": keras.__version__, "backend": keras.backend.backend()}
    if versions["backend"] == "tensorflow":
        import tensorflow

        versions["tensorflow"] = tensorflow.__version__
    print(json.dumps(versions), flush=True)
    data = {"x": x_train, "y": y_train, "validation_data": (x_test, y_test)}
    if args.warm_up:
        # On the same model, whose functions are kept, and the same data, for whose shapes they are.
        model.optimizer.build(model.trainable_variables)
        variables = [*model.variables, *model.optimizer.variables]
        before = [keras.ops.convert_to_numpy(variable).copy() for variable in variables]
        model.fit(**data, batch_size=128, steps_per_epoch=2, validation_steps=2, verbose=0)
        for variable, value in zip(variables, before, strict=True):
            variable.assign(value)
    model.fit(
        **data,
        batch_size=128,
        epochs=args.epochs,
        steps_per_epoch=args.steps,
        validation_steps=args.steps,
        verbose=0,
        callbacks=[Lines()],
    )


if __name__ == "__main__":
    main()
