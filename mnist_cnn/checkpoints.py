"""Reading checkpoints that may be missing, damaged, hostile or of another net."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch
from torch import nn

MAX_NAMED = 3  # weights that an error message names


class CheckpointError(ValueError):
    """The file cannot be used as a checkpoint, for the reason that the message gives."""


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
    except pickle.UnpicklingError as error:
        # torch answers the same way to pickled code and to bytes that are no pickle.
        with open(path, "rb") as file:
            is_pickle = file.read(2) in (b"PK", b"\x80\x02")
        reason = "carries code, and is refused" if is_pickle else "is not a checkpoint"
        raise CheckpointError(f"checkpoint {path} {reason}") from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise CheckpointError(
            f"checkpoint {path} is truncated, damaged or not a checkpoint"
        ) from error
    if not isinstance(checkpoint, dict) or "state_dict" not in checkpoint:
        raise CheckpointError(f"checkpoint {path} is not one of Lightning's: it has no state_dict")
    return checkpoint


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
