"""The progress bar of a training: with loss and accuracy of the epoch so far, as in Keras."""

from __future__ import annotations

import time
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar
from torch import Tensor

INTERVAL = 0.25  # seconds from one look at the figures to the next: to look at each step costs 1 %


class TrainingBar(RichProgressBar):
    """Lightning's bar, with ``loss`` and ``accuracy`` over the images of the epoch so far.

    They are of this device's share of the images, and are fetched without waiting for a GPU: what
    is shown there is a quarter of a second old. Needs a model whose ``train_metrics`` are
    `EpochMetrics`, and shows nothing of others.

    Args:
        settings: `RichProgressBar`'s.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._shown: dict[str, str] = {}
        self._coming: tuple[Tensor, torch.cuda.Event | None] | None = None
        self._next_look = 0.0

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin an epoch's bar, empty."""
        self._shown, self._coming, self._next_look = {}, None, 0.0
        super().on_train_epoch_start(trainer, pl_module)

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        """Lightning's, and the two."""
        metrics = getattr(pl_module, "train_metrics", None)
        if trainer.training and hasattr(metrics, "so_far"):
            self._look(metrics)
        return super().get_metrics(trainer, pl_module) | self._shown

    def _look(self, metrics: Any) -> None:
        if self._coming is None and time.monotonic() >= self._next_look:
            self._next_look = time.monotonic() + INTERVAL
            figures, arrived = metrics.so_far(), None
            if figures.is_cuda:
                here = torch.empty_like(figures, device="cpu", pin_memory=True)
                figures, arrived = here.copy_(figures, non_blocking=True), torch.cuda.Event()
                arrived.record()
            self._coming = figures, arrived
        if self._coming:
            figures, arrived = self._coming
            if arrived is None or arrived.query():
                loss, accuracy = figures.tolist()
                self._shown = {"loss": f"{loss:.4f}", "accuracy": f"{accuracy:.4f}"}
                self._coming = None

    # Counted from 1, as in the table below it. No public method names the epoch.
    def _get_train_description(self, current_epoch: int) -> str:
        last = self.trainer.max_epochs
        name = f"Epoch {current_epoch + 1}" + (f"/{last}" if last and last > 0 else "")
        return f"{name:{len(self.validation_description)}}"
