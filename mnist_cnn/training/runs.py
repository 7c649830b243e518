"""Facts about a run that Lightning's Trainer does not hand out, or only on all ranks at once."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningDataModule, Trainer
from lightning.pytorch.utilities import rank_zero_only

from mnist_cnn.training.randomness import global_seed

#: The curves of a run, in the order of the published run's columns.
CURVES = ("train/loss", "train/accuracy", "val/loss", "val/accuracy")


def datamodule(trainer: Trainer) -> LightningDataModule | None:
    """What ``fit`` was given as its datamodule, if it was."""
    return trainer.datamodule  # type: ignore[attr-defined]  # set by fit


def curves(trainer: Trainer) -> dict[str, float]:
    """The figures of the epoch that ends. To be called on all ranks, which compute them together.

    Without those of an earlier epoch's validation, which Lightning keeps until the next.
    """
    validated = trainer.fit_loop.epoch_loop.val_loop.batch_progress.total.ready > 0
    tags = [tag for tag in CURVES if validated or not tag.startswith("val/")]
    metrics = trainer.callback_metrics
    return {tag: float(metrics[tag]) for tag in tags if tag in metrics}


def log_dir(trainer: Trainer) -> Path | None:
    """The folder of the run's logs. ``Trainer.log_dir`` would have to be asked on all ranks."""
    return (
        Path(trainer.loggers[0].log_dir) if trainer.loggers and trainer.loggers[0].log_dir else None
    )


def run_settings(trainer: Trainer, data: LightningDataModule | None) -> dict[str, Any]:
    """The settings, by their flags, on which depends what a numbered step sees."""
    hparams: dict[str, Any] = dict(data.hparams) if data else {}
    of_data = {f"data.{name}": hparams.get(name) for name in ("batch_size", "val_size")}
    return {
        "seed_everything": global_seed(),
        "trainer.limit_train_batches": trainer.limit_train_batches,
        **of_data,
    }


@rank_zero_only
def warn(message: str) -> None:
    """Tell the user, once, whatever filters Python's warnings have."""
    print(f"warning: {message}", file=sys.stderr, flush=True)


def gather(trainer: Trainer, mine: Any) -> list[Any]:
    """The objects of all ranks, in the order of the ranks."""
    if trainer.world_size == 1:
        return [mine]
    everyone: list[Any] = [None] * trainer.world_size
    torch.distributed.all_gather_object(everyone, mine)
    return everyone
