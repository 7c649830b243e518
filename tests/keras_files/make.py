"""Make the files beside this one, with real Keras: a small classic stack, trained for five steps.

    KERAS_BACKEND=tensorflow python tests/keras_files/make.py data/MNIST/raw

``small.keras``, ``small.weights.h5`` and ``small.h5`` hold the model before the first step;
``expected.npz`` its probabilities on the first 64 test images, the losses of five Adadelta steps
on the first 5×128 training images, in order and without dropout, and the weights after them;
``trained.keras`` the model then, with the state of Adadelta.
"""

from __future__ import annotations

import sys
from pathlib import Path

import keras
import numpy as np

HERE = Path(__file__).parent


def main(raw: Path) -> None:
    """Make them."""
    images = np.frombuffer((raw / "train-images-idx3-ubyte").read_bytes()[16:], np.uint8)
    x = images.reshape(-1, 28, 28, 1)[: 5 * 128].astype("float32") / 255
    labels = np.frombuffer((raw / "train-labels-idx1-ubyte").read_bytes()[8:], np.uint8)
    y = keras.utils.to_categorical(labels[: 5 * 128], 10)
    images = np.frombuffer((raw / "t10k-images-idx3-ubyte").read_bytes()[16:], np.uint8)
    test = images.reshape(-1, 28, 28, 1)[:64].astype("float32") / 255

    keras.utils.set_random_seed(7)
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(4, 3, activation="relu", name="first"),
            layers.Conv2D(6, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Dropout(0.0),
            layers.Flatten(),
            layers.Dense(16, activation="relu", name="hidden"),
            layers.Dropout(0.0),
            layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile(
        optimizer=keras.optimizers.Adadelta(1.0),
        loss="categorical_crossentropy",
        metrics=["accuracy"],
    )
    model.save(HERE / "small.keras")
    model.save_weights(HERE / "small.weights.h5")
    # Of a copy: saving as .h5 takes the optimizer out of what the model saves of itself later.
    keras.models.load_model(HERE / "small.keras").save(HERE / "small.h5")
    expected = {"probabilities": model.predict(test, verbose=0)}
    losses = []
    for i in range(0, len(x), 128):
        loss, _ = model.train_on_batch(x[i : i + 128], y[i : i + 128])
        losses.append(loss)
        model.reset_metrics()
    expected["losses"] = np.array(losses)
    expected |= {f"weights_{i}": w for i, w in enumerate(model.get_weights())}
    expected["probabilities_after"] = model.predict(test, verbose=0)
    np.savez_compressed(HERE / "expected.npz", **expected)
    model.save(HERE / "trained.keras")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
