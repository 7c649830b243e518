"""The nets: from images (B, 1, 28, 28) in [0, 1] to logits (B, 10)."""

from mnist_cnn.nets.describe import describe
from mnist_cnn.nets.ensemble import MAX_SHIFTS, EnsembleCNN, logits_over_shifts
from mnist_cnn.nets.fast_cnn import FastCNN
from mnist_cnn.nets.keras_cnn import KerasCNN
from mnist_cnn.nets.known import NETS, make_net
from mnist_cnn.nets.layers import load_kernels
from mnist_cnn.nets.record_cnn import RecordCNN
from mnist_cnn.nets.sequential import SequentialCNN

__all__ = [
    "MAX_SHIFTS",
    "NETS",
    "EnsembleCNN",
    "FastCNN",
    "KerasCNN",
    "RecordCNN",
    "SequentialCNN",
    "describe",
    "load_kernels",
    "logits_over_shifts",
    "make_net",
]
