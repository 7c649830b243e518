"""The classic Keras MNIST CNN as PyTorch Lightning software."""

from mnist_cnn.data import MNISTDataModule
from mnist_cnn.model import MNISTClassifier
from mnist_cnn.nets import EnsembleCNN, FastCNN, KerasCNN, RecordCNN, SequentialCNN

__version__ = "0.1.0"
__all__ = [
    "EnsembleCNN",
    "FastCNN",
    "KerasCNN",
    "MNISTClassifier",
    "MNISTDataModule",
    "RecordCNN",
    "SequentialCNN",
]
