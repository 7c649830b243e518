"""What the programs beside this one have in common: their options, and what they print.

Each is ``python -m benchmarks.NAME_peer``, and prints a JSON line an epoch: seconds of the training
(train_s) and with the test (s), loss, val_accuracy. Imports no torch: Keras does without.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from time import perf_counter

BATCH_SIZE = 128


def options(description: str | None) -> argparse.ArgumentParser:
    """A parser of the options that each has."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--steps", type=int, help="of an epoch, and of its test")
    parser.add_argument("--data", default="data", help="torchvision's folder of MNIST")
    return parser


def run(
    epochs: int, train: Callable[[int], float], test: Callable[[], float] | None = None
) -> None:
    """Train and test in turns: `train` the epoch of a number from 0 to a loss; print each."""
    for epoch in range(epochs):
        start = perf_counter()
        figures = {"loss": train(epoch)}
        seconds = {"train_s": perf_counter() - start}
        if test:
            figures["val_accuracy"] = test()
            seconds["s"] = perf_counter() - start
        print(json.dumps({"epoch": epoch + 1, **seconds, **figures}), flush=True)
