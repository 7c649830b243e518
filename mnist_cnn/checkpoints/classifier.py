"""A trained model from a file alone; no configuration is needed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mnist_cnn.checkpoints.trained import load_net
from mnist_cnn.model import MNISTClassifier


def load_classifier(path: str | Path) -> tuple[MNISTClassifier, dict[str, Any]]:
    """Read one of this project's nets from a checkpoint; no configuration is needed.

    Args:
        path: A checkpoint of Lightning's, or what ``export --format safetensors`` wrote.

    Returns:
        The model, in evaluation mode on the CPU, and what is known of it: ``net``, its class and
        arguments, ``test_shifts``, ``dataset``, and ``epochs``, the whole ones it was trained for
        here; of a ``.safetensors`` file all that `mnist_cnn.use.export.describe_model` says,
        ``test_accuracy`` among it.

    Raises:
        CheckpointError: If the file cannot be read, or is of another net.
    """
    net, test_shifts, facts = load_net(path)
    return MNISTClassifier(net, test_shifts=test_shifts).eval(), facts
