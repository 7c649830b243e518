"""The classic Keras MNIST CNN as PyTorch Lightning software.

The names below are imported when they are asked for, so that `import mnist_cnn` loads nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mnist_cnn.checkpoints.classifier import load_classifier
    from mnist_cnn.checkpoints.files import BUNDLED
    from mnist_cnn.data import MNISTDataModule
    from mnist_cnn.model import MNISTClassifier
    from mnist_cnn.nets import EnsembleCNN, FastCNN, KerasCNN, RecordCNN, SequentialCNN
    from mnist_cnn.training.adadelta import Adadelta

__version__ = "0.1.0"
__all__ = [
    "BUNDLED",
    "Adadelta",
    "EnsembleCNN",
    "FastCNN",
    "KerasCNN",
    "MNISTClassifier",
    "MNISTDataModule",
    "RecordCNN",
    "SequentialCNN",
    "load_classifier",
]
__path__.append(f"{__path__[0]}/former")  # modules' names before they had rooms

_ELSEWHERE = {
    "Adadelta": "mnist_cnn.training.adadelta",
    "BUNDLED": "mnist_cnn.checkpoints.files",
    "MNISTClassifier": "mnist_cnn.model",
    "MNISTDataModule": "mnist_cnn.data",
    "load_classifier": "mnist_cnn.checkpoints.classifier",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_ELSEWHERE.get(name, "mnist_cnn.nets")), name)
