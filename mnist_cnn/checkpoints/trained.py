"""A trained net from a file alone; no configuration is needed, and no Lightning."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from mnist_cnn.checkpoints.files import (
    CheckpointError,
    check_fits,
    described_dataset,
    described_model,
    epochs_trained,
    read_checkpoint,
)
from mnist_cnn.nets import MAX_SHIFTS, NETS, make_net


class TrainedNet(NamedTuple):
    """What `load_net` reads.

    Args:
        net: From images (N, 1, 28, 28) in [0, 1] to logits (N, 10); in evaluation mode on the CPU.
        test_shifts: See `mnist_cnn.nets.logits_over_shifts`.
        facts: As of `mnist_cnn.load_classifier`.
    """

    net: nn.Module
    test_shifts: int
    facts: dict[str, Any]


def load_net(path: str | Path) -> TrainedNet:
    """Read one of this project's nets from a checkpoint.

    Args:
        path: A checkpoint of Lightning's, or what ``export --format safetensors`` wrote.

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
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"checkpoint {path} describes no net that can be made") from error
    shifts = described["test_shifts"]
    if not isinstance(shifts, int) or not 0 <= shifts <= MAX_SHIFTS:
        raise CheckpointError(f"checkpoint {path}: test_shifts {shifts} is not possible")
    model = nn.ModuleDict({"net": net})  # as in `MNISTClassifier`
    check_fits(checkpoint, model, path)
    model.load_state_dict(checkpoint["state_dict"])
    facts = described | {"epochs": epochs_trained(checkpoint)} | checkpoint.get("metadata", {})
    facts["dataset"] = described_dataset(checkpoint)
    return TrainedNet(net.eval(), shifts, facts)
