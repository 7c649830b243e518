"""Reading checkpoints that may be missing, damaged, hostile or of another net."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import torch
from torch import nn

SAFETENSORS = ".safetensors"
MAX_NAMED = 3  # weights that an error message names
OUR_NETS = ("mnist_cnn.nets.KerasCNN", "mnist_cnn.nets.SequentialCNN")


class CheckpointError(ValueError):
    """The file cannot be used as a checkpoint, for the reason that the message gives."""


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint onto the CPU, as weights only: no code in it is run.

    Args:
        path: The file: Lightning's, or one that ``export --format safetensors`` wrote.

    Returns:
        What ``Trainer.save_checkpoint`` wrote; of a ``.safetensors`` file ``state_dict``,
        ``hyper_parameters`` and ``metadata`` (see `mnist_cnn.export`).

    Raises:
        CheckpointError: If there is no such file, or it is truncated, carries code, or is not a
            Lightning checkpoint.
    """
    if not Path(path).is_file():
        raise CheckpointError(f"checkpoint {path}: there is no such file")
    if Path(path).suffix == SAFETENSORS:
        return _read_safetensors(path)
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # bytes that are no checkpoint end in errors of many kinds
        with open(path, "rb") as file:
            is_pickle = file.read(2) in (b"PK", b"\x80\x02")
        if is_pickle and isinstance(error, pickle.UnpicklingError):
            reason = "carries code, and is refused"
        else:
            reason = "is truncated, damaged or not a checkpoint"
        raise CheckpointError(f"checkpoint {path} {reason}") from error
    if not isinstance(checkpoint, dict) or "state_dict" not in checkpoint:
        raise CheckpointError(f"checkpoint {path} is not one of Lightning's: it has no state_dict")
    return checkpoint


def _read_safetensors(path: str | Path) -> dict[str, Any]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            metadata: dict[str, Any] = dict(file.metadata() or {})
            metadata["net"] = json.loads(metadata.get("net", "null"))
    except (SafetensorError, ValueError) as error:
        raise CheckpointError(
            f"checkpoint {path} is truncated, damaged or not safetensors"
        ) from error
    return {
        "state_dict": weights,
        "hyper_parameters": {"net": metadata.get("net")},
        "metadata": metadata,
    }


def no_checkpoint(argument: str) -> str:
    """What to say where a checkpoint is needed and none is given as `argument`."""
    return (
        f"{argument} is missing: which checkpoint? `python -m mnist_cnn fit --config "
        "configs/cnn.yaml` makes one, tb_logs/cnn/version_0/checkpoints/best.ckpt"
    )


def described_net(checkpoint: dict[str, Any]) -> dict[str, Any] | None:
    """The class and arguments of the net in a checkpoint, if it is one of this project's.

    No other class is taken from a file: making it could run code that the file's author chose.
    """
    hyper_parameters = checkpoint.get("hyper_parameters")
    net = hyper_parameters.get("net") if isinstance(hyper_parameters, dict) else None
    known = isinstance(net, dict) and net.get("class_path") in OUR_NETS
    return net if known else None


def check_fits(checkpoint: dict[str, Any], model: nn.Module, path: str | Path) -> None:
    """Refuse a checkpoint whose weights are not those of `model`.

    Raises:
        CheckpointError: If names or shapes of the weights differ; the message names some.
    """
    theirs = {name: tuple(value.shape) for name, value in checkpoint["state_dict"].items()}
    ours = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    differences = [
        f"{name} is {theirs.get(name, 'missing')} there and {ours.get(name, 'missing')} here"
        for name in [*ours, *(name for name in theirs if name not in ours)]
        if theirs.get(name) != ours.get(name)
    ]
    if differences:
        shown = "; ".join(differences[:MAX_NAMED])
        more = f"; and {len(differences) - MAX_NAMED} more" if len(differences) > MAX_NAMED else ""
        raise CheckpointError(f"checkpoint {path} holds another net: {shown}{more}")
