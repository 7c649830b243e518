"""A trained model from a file alone; no configuration is needed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mnist_cnn.checkpoints.files import (
    CheckpointError,
    check_fits,
    described_dataset,
    described_model,
    read_checkpoint,
)
from mnist_cnn.model import MNISTClassifier
from mnist_cnn.nets import NETS, make_net
from mnist_cnn.training.trainer_state import epochs_trained


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
    checkpoint = read_checkpoint(path)
    described = described_model(checkpoint)
    if described is None:
        known = ", ".join(NETS)
        raise CheckpointError(f"checkpoint {path} is not of one of this project's nets: {known}")
    try:
        net = make_net(described["net"])
        model = MNISTClassifier(net, test_shifts=described["test_shifts"])
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"checkpoint {path} describes no net that can be made") from error
    check_fits(checkpoint, model, path)
    model.load_state_dict(checkpoint["state_dict"])
    facts = described | {"epochs": epochs_trained(checkpoint)} | checkpoint.get("metadata", {})
    facts["dataset"] = described_dataset(checkpoint)
    return model.eval(), facts
