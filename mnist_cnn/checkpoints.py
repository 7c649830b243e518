"""Checkpoint files: written whole or not at all; read though missing, damaged or hostile."""

from __future__ import annotations

import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO
from torch import nn

MAX_NAMED = 3  # weights that an error message names
OUR_NETS = ("mnist_cnn.nets.KerasCNN", "mnist_cnn.nets.SequentialCNN")


class CheckpointError(ValueError):
    """The file cannot be used as a checkpoint, for the reason that the message gives."""


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its place, and moves it there when it is on the disk.

    Lightning's own writes to the system's folder for temporary files and moves it from there. On
    another file system that is a copy, of which an interruption leaves a part.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        if "://" in str(path):
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.tmp")
        try:
            with temporary.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except (OSError, RuntimeError) as error:  # torch's writer says RuntimeError for a full disk
            temporary.unlink(missing_ok=True)
            raise CheckpointError(f"checkpoint {path} could not be written: {error}") from error


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a Lightning checkpoint onto the CPU, as weights only: no code in it is run.

    Args:
        path: The file.

    Returns:
        What ``Trainer.save_checkpoint`` wrote.

    Raises:
        CheckpointError: If there is no such file, or it is truncated, carries code, or is not a
            Lightning checkpoint.
    """
    if not Path(path).is_file():
        raise CheckpointError(f"checkpoint {path}: there is no such file")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        if zipfile.is_zipfile(path) and (name := zipfile.ZipFile(path).testzip()):
            raise zipfile.BadZipFile(f"wrong checksum of {name}")  # torch does not look
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
