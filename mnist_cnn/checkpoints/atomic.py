"""Checkpoint files that are written whole or not at all."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

from mnist_cnn.file_system.whole import write_whole


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint whole or not at all.

    Lightning's own writes to the system's folder for temporary files and moves it from there. On
    another file system that is a copy, of which an interruption leaves a part.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        if "://" in str(path):
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        content = io.BytesIO()  # for a full disk torch's writer has no more than a RuntimeError
        torch.save(checkpoint, content)
        write_whole(path, content.getbuffer())
