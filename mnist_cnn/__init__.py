"""The classic Keras MNIST CNN as PyTorch Lightning software."""

from importlib.metadata import version

__version__ = version("mnist-cnn")
