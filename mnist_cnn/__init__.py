"""The classic Keras MNIST CNN as PyTorch Lightning software."""

import os

# For how many turns of a loop the OpenMP of torch's Linux builds keeps a core busy that has nothing
# to do: by default so many that the threads of `sparse` share the core with it. So a step of the
# Keras net takes 0.9 of the time. Read when torch is loaded.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")

from mnist_cnn.data import MNISTDataModule
from mnist_cnn.model import MNISTClassifier
from mnist_cnn.nets import EnsembleCNN, FastCNN, KerasCNN, RecordCNN, SequentialCNN
from mnist_cnn.training.adadelta import Adadelta

__version__ = "0.1.0"
__all__ = [
    "Adadelta",
    "EnsembleCNN",
    "FastCNN",
    "KerasCNN",
    "MNISTClassifier",
    "MNISTDataModule",
    "RecordCNN",
    "SequentialCNN",
]

__path__.append(f"{__path__[0]}/former")  # modules' names before they had rooms
