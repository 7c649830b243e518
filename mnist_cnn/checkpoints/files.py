"""Checkpoint files, read though missing, damaged or hostile: what is in them, as they say."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import zipfile
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from mnist_cnn.data_sets import DATASETS, Dataset
from mnist_cnn.errors import UserError
from mnist_cnn.nets import NETS

SAFETENSORS = ".safetensors"
#: A model that is trained already, a RecordCNN: configs/pictures.yaml's, with seed 1.
BUNDLED = Path(__file__).parents[1] / "weights" / "record.safetensors"
MAX_NAMED = 3  # weights that an error message names


class CheckpointError(UserError):
    """The file cannot be used as a checkpoint, for the reason that the message gives."""


def link(source: Path, target: Path) -> None:
    """Give a file a second name, in one step; a copy where the file system has no links."""
    temporary = target.with_name(f".{target.name}.tmp")
    temporary.unlink(missing_ok=True)
    try:
        os.link(source, temporary)
    except OSError:
        shutil.copyfile(source, temporary)
    temporary.replace(target)


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


def _read_safetensors(path: str | Path) -> dict[str, Any]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            metadata: dict[str, Any] = dict(file.metadata() or {})
            for name in ("net", "test_shifts"):
                metadata[name] = json.loads(metadata.get(name, "null"))
    except (SafetensorError, ValueError) as error:
        raise CheckpointError(
            f"checkpoint {path} is truncated, damaged or not safetensors"
        ) from error
    return {
        "state_dict": weights,
        "hyper_parameters": {
            "net": metadata["net"],
            "test_shifts": metadata["test_shifts"] or 0,
        },
        "metadata": metadata,
    }


def described_model(checkpoint: dict[str, Any]) -> dict[str, Any] | None:
    """What a checkpoint of one of this project's nets says of `MNISTClassifier`'s arguments.

    Returns:
        ``net``, class and arguments, and ``test_shifts``; or None. No other class is taken from a
        file: making it could run code that the file's author chose.
    """
    hyper_parameters = checkpoint.get("hyper_parameters")
    if not isinstance(hyper_parameters, dict) or not _known(hyper_parameters.get("net")):
        return None
    return {"net": hyper_parameters["net"], "test_shifts": hyper_parameters.get("test_shifts", 0)}


def described_dataset(checkpoint: dict[str, Any]) -> Dataset:
    """The data set on which a checkpoint's model was trained: MNIST if it does not say."""
    for said in ("datamodule_hyper_parameters", "metadata"):
        if (dataset := checkpoint.get(said, {}).get("dataset")) in DATASETS:
            return cast(Dataset, dataset)
    return "MNIST"


def epochs_trained(checkpoint: dict[str, Any]) -> int:
    """The whole epochs that a checkpoint of Lightning's has behind it; 0 if it does not say."""
    progress = checkpoint.get("loops", {}).get("fit_loop", {}).get("epoch_progress", {})
    return progress.get("current", {}).get("processed", 0)


def _known(net: Any) -> bool:
    """Whether a description is of a net of this project, and so are all nets within."""
    if not isinstance(net, dict) or net.get("class_path") not in NETS:
        return False
    inner = (net.get("init_args") or {}).get("nets", [])
    return isinstance(inner, list) and all(map(_known, inner))


def check_fits(checkpoint: dict[str, Any], model: nn.Module, path: str | Path) -> None:
    """Refuse a checkpoint whose weights are not those of `model`.

    Raises:
        CheckpointError: If names or shapes of the weights differ; the message names some.
    """
    weights = checkpoint.get("state_dict")
    if not isinstance(weights, dict):
        raise CheckpointError(f"checkpoint {path} holds no weights")
    theirs = {name: tuple(value.shape) for name, value in weights.items()}
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
