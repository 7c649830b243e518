"""Where ``predict`` without pictures writes what it says of MNIST's test images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from mnist_cnn.data import MNISTDataModule
from mnist_cnn.data_sets import class_words
from mnist_cnn.training.trainer_state import datamodule, gather, run_folder
from mnist_cnn.use.tables import check_suffix, write_table


class PredictionWriter(Callback):
    """Writes predictions: index, digit, confidence, and all ten probabilities.

    Args:
        path: Where to write, as CSV or JSON by its suffix; by default ``predictions.csv`` in the
            folder of the run's logs.

    Raises:
        UserError: If the suffix is another.
    """

    def __init__(self, path: str | None = None) -> None:
        if path is not None:
            check_suffix("--predictions.path", path)
        self.path = path
        self.mine: list[Tensor] = []  # of each batch, this rank's share: (B, 10)

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.mine = []

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self.mine.append(outputs.cpu())

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        by_rank = gather(trainer, self.mine)
        if trainer.is_global_zero:
            # The ranks' shares of a batch are consecutive rows of it.
            shares = [share for batch in zip(*by_rank, strict=True) for share in batch]
            probabilities = torch.cat(shares)
            folder = run_folder(trainer) if trainer.loggers else Path()
            path = Path(self.path or folder / "predictions.csv")
            data = datamodule(trainer)
            names = class_words(data.dataset) if isinstance(data, MNISTDataModule) else []
            keys = [{"index": i} for i in range(len(probabilities))]
            write_table(path, keys, probabilities, names)
            print(f"{len(probabilities)} predictions: {path}", flush=True)
