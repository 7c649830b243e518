"""Where predictions go."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from mnist_cnn.data import Batch
from mnist_cnn.runs import gather, log_dir


class PredictionWriter(Callback):
    """Writes predictions as a CSV table: index, digit, confidence, and all ten probabilities.

    Args:
        path: Where to write; by default ``predictions.csv`` in the folder of the run's logs.
    """

    def __init__(self, path: str | None = None) -> None:
        self.path = path
        self.shares: list[Tensor] = []  # (B, 10) probabilities of each batch

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.shares = []

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self.shares.append(outputs.cpu())

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        by_rank = gather(trainer, self.shares)
        if not trainer.is_global_zero:
            return
        # The ranks' shares of a batch are consecutive rows of it.
        rows = torch.cat([share for batch in zip(*by_rank, strict=True) for share in batch])
        path = Path(self.path or (log_dir(trainer) or Path()) / "predictions.csv")
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.tmp")
        with temporary.open("w", newline="") as file:
            table = csv.writer(file)
            table.writerow(
                ["index", "digit", "confidence", *(f"p{i}" for i in range(rows.shape[1]))]
            )
            for index, row in enumerate(rows):
                figures = (f"{p:.6f}" for p in row.tolist())
                table.writerow([index, int(row.argmax()), f"{float(row.max()):.6f}", *figures])
        temporary.replace(path)
        print(f"{len(rows)} predictions: {path}", flush=True)
