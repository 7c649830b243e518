"""The published run, in real Keras: the peer of ``compare_keras.py`` and ``epoch.py``.

    python -m benchmarks.keras_peer --seed 1 --epochs 12 --data data

Needs keras, a backend of it and numpy; nothing of this project. Prints a JSON line with the
versions before those of the epochs, which have accuracy and val_loss, too.
"""

from __future__ import annotations

import json
import os
import time
from importlib import import_module

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
from keras import layers

from benchmarks import peers


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
    parser = peers.options(__doc__)
    parser.add_argument("--steps-per-execution", type=int, default=1)
    args = parser.parse_args()
    keras.utils.set_random_seed(args.seed)

    def read(part: str) -> tuple[np.ndarray, np.ndarray]:
        images, labels = (
            np.fromfile(f"{args.data}/MNIST/raw/{part}-{name}-ubyte", np.uint8, offset=header)
            for name, header in (("images-idx3", 16), ("labels-idx1", 8))
        )
        x = images.reshape(-1, 28, 28, 1).astype("float32") / 255
        return x, keras.utils.to_categorical(labels, 10)

    x_train, y_train = read("train")
    model = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            *(layers.Conv2D(32, 3, activation="relu"), layers.Conv2D(64, 3, activation="relu")),
            *(layers.MaxPooling2D(2), layers.Dropout(0.25), layers.Flatten()),
            *(layers.Dense(128, activation="relu"), layers.Dropout(0.5)),
            layers.Dense(10, activation="softmax"),
        ]
    )
    adadelta = keras.optimizers.Adadelta(learning_rate=1.0)
    model.compile(
        loss="categorical_crossentropy",
        optimizer=adadelta,
        metrics=["accuracy"],
        steps_per_execution=args.steps_per_execution,
    )
    backend = keras.backend.backend()
    versions = {"keras": keras.__version__, "backend": backend}
    print(json.dumps(versions | {backend: import_module(backend).__version__}), flush=True)

    fit = {"x": x_train, "y": y_train, "validation_data": read("t10k")}
    fit["batch_size"] = peers.BATCH_SIZE
    # Let Keras trace its functions before the clock starts, by two batches whose effect is undone:
    # on the same model, which keeps the functions, and the same data, for whose shapes they are.
    model.optimizer.build(model.trainable_variables)
    variables = [*model.variables, *model.optimizer.variables]
    before = [keras.ops.convert_to_numpy(variable).copy() for variable in variables]
    model.fit(**fit, steps_per_epoch=2, validation_steps=2, verbose=0)
    for variable, value in zip(variables, before, strict=True):
        variable.assign(value)
    steps = {"steps_per_epoch": args.steps, "validation_steps": args.steps}
    model.fit(**fit, **steps, epochs=args.epochs, verbose=0, callbacks=[Lines()])


if __name__ == "__main__":
    main()
