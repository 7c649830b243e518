"""What Lightning's Trainer does not hand out, or only on all ranks at once.

All that this project reads or sets of Lightning's loop counters is here, as they are in Lightning
2.6.6; ``tests/test_trainer_state.py`` fails where another release changes them.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import GradientAccumulationScheduler, StochasticWeightAveraging
from lightning.pytorch.loggers import TensorBoardLogger
from torch.optim.swa_utils import SWALR


def datamodule(trainer: Trainer) -> LightningDataModule | None:
    """What ``fit`` was given as its datamodule, if it was."""
    return trainer.datamodule  # type: ignore[attr-defined]  # set by fit


def run_folder(trainer: Trainer) -> Path:
    """The one folder of a run: its first logger's that keeps files, else the trainer's root folder.

    Rank 0's is meant: the others may have counted the versions when it was there already.
    ``Trainer.log_dir`` would have to be asked on all ranks, and is no folder of the run where the
    first logger sends its figures elsewhere.
    """
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):  # its log_dir is the sub_dir, if it has one
            version = logger.version
            name = version if isinstance(version, str) else f"version_{version}"
            return Path(os.path.expandvars(Path(logger.root_dir, name).expanduser()))
        if logger.log_dir:
            return Path(logger.log_dir)
    return Path(trainer.default_root_dir)


def gather(trainer: Trainer, mine: Any) -> list[Any]:
    """The objects of all ranks, in the order of the ranks."""
    if trainer.world_size == 1:
        return [mine]
    everyone: list[Any] = [None] * trainer.world_size
    torch.distributed.all_gather_object(everyone, mine)
    return everyone


def batches_done(trainer: Trainer) -> int:
    """Training batches of the epoch under way that a run that goes on has behind it."""
    loop = trainer.fit_loop  # after its end it remembers how far it came
    return loop.epoch_loop.batch_progress.current.ready if loop.restarting else 0


def is_within_epoch(trainer: Trainer) -> bool:
    """Whether an epoch of training has been started and not ended."""
    epochs: Any = trainer.fit_loop.epoch_progress.current
    return epochs.started > epochs.processed


def has_validated(trainer: Trainer) -> bool:
    """Whether the epoch under way has been validated."""
    return trainer.fit_loop.epoch_loop.val_loop.batch_progress.total.ready > 0


def begin_epoch_afresh(trainer: Trainer) -> None:
    """After a resume at the start of an epoch: nothing of it is left to be skipped."""
    loop = trainer.fit_loop.epoch_loop
    if loop.batch_progress.current.ready == 0 or loop.batch_progress.is_last_batch:
        loop.restarting = False


def begin_resumed_epoch(trainer: Trainer, model: LightningModule) -> None:
    """Once after a resume, before the first step: what Lightning leaves out of an epoch.

    Where a run goes on within one, no callback hears that it begins. Stochastic weight averaging
    also takes another learning rate than the one that it had, wherever a run goes on.
    """
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    for callback in callbacks:
        if isinstance(callback, StochasticWeightAveraging):
            # Its last epoch, of batch normalisation alone, it may not begin twice.
            if is_within_epoch(trainer) or trainer.current_epoch <= callback.swa_end:
                callback.on_train_epoch_start(trainer, model)
        elif isinstance(callback, GradientAccumulationScheduler):
            callback.on_train_epoch_start(trainer, model)
    for scheduler in (config.scheduler for config in trainer.lr_scheduler_configs):
        if isinstance(scheduler, SWALR):  # the callback has begun its schedule afresh
            rates = scheduler.get_last_lr()
            for group, rate in zip(scheduler.optimizer.param_groups, rates, strict=True):
                group["lr"] = rate


def forget_restart(trainer: Trainer) -> None:
    """Once a batch has begun: Lightning forgets only at the end of the epoch that it went on.

    At that end schedules that look at a metric would be left out.
    """
    trainer.fit_loop._restarting = False


def forget_unbegun(checkpoint: dict[str, Any], num_training_batches: float) -> None:
    """Take out of a checkpoint the epoch and the batch that were announced and not begun."""
    loops = checkpoint["loops"]["fit_loop"]
    for name in ("epoch_progress", "epoch_loop.batch_progress"):
        for count in (loops[name]["total"], loops[name]["current"]):
            count["ready"] = count["started"]
    batch = loops["epoch_loop.batch_progress"]
    if batch["current"]["ready"] < num_training_batches:
        batch["is_last_batch"] = False
