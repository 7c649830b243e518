"""What the terminal and the log file show of a run."""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from shutil import which
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter
from torch import Tensor

from mnist_cnn.checkpoints.run_folder import LAST
from mnist_cnn.data import MNISTDataModule
from mnist_cnn.errors import warn
from mnist_cnn.reports.curves import CURVES, curves
from mnist_cnn.training.trainer_state import datamodule, gather, run_folder


class Report(Callback):
    """Puts a run in the terms of the published one: a line an epoch, and a summary for the end.

    Without a progress bar (in a log file, say) each epoch's line is printed when it ends. The
    summary of a resumed run has the epochs before the interruption as well.
    """

    def __init__(self) -> None:
        self.history: list[
            dict[str, float]
        ] = []  # one row an epoch; s: seconds, val_s: of these for validation
        self.has_begun = False  # to train, now and not before a resume
        self.losses: list[tuple[int, Tensor]] = []  # steps and their losses, not looked at yet
        self.warned = False
        self.epoch_start = 0.0
        self.elapsed = 0.0  # seconds of the epoch under way that were spent before a resume
        self.validation_start = 0.0
        self.validation = 0.0  # seconds of the epoch under way that were spent on validation

    def state_dict(self) -> dict[str, Any]:
        elapsed = self.elapsed + time.perf_counter() - self.epoch_start
        return {"history": self.history, "elapsed": elapsed}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.history = list(state_dict["history"])
        self.elapsed = state_dict.get("elapsed", 0.0)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.is_global_zero and trainer.progress_bar_callback is None:
            print(_sample_counts(trainer), HEADER, sep="\n", flush=True)
        self.epoch_start = time.perf_counter()
        self.has_begun = True
        self.losses = []

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.epoch_start, self.elapsed, self.validation = time.perf_counter(), 0.0, 0.0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, *_: Any
    ) -> None:
        # Not looked at yet: that would make each step wait for a GPU.
        self.losses.append((trainer.global_step, outputs["loss"].detach()))
        if len(self.losses) == MANY:
            self._warn_if_not_finite(trainer)

    def _warn_if_not_finite(self, trainer: Trainer) -> None:
        looked_at, self.losses = self.losses, []
        losses = [loss for _, loss in looked_at]
        finite = torch.stack(losses).isfinite().tolist() if losses else []
        mine = [step for (step, _), good in zip(looked_at, finite, strict=True) if not good]
        steps = [step for step in gather(trainer, min(mine, default=0)) if step]
        if steps and not self.warned:
            self.warned = True
            lr = float(trainer.optimizers[0].param_groups[0]["lr"])
            warn(
                f"the loss became NaN or infinite at step {min(steps)}: lower the learning rate, "
                f"--model.optimizer.lr, which is {lr:g}"
            )

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if pl_module.device.type == "cuda":
            torch.cuda.synchronize(pl_module.device)  # what is still to be done there is training
        self.validation_start = time.perf_counter()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.validation += time.perf_counter() - self.validation_start

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._warn_if_not_finite(trainer)
        figures = curves(trainer)  # now a GPU has done all
        seconds = self.elapsed + time.perf_counter() - self.epoch_start
        row = {"epoch": trainer.current_epoch + 1.0, "s": seconds, "val_s": self.validation}
        row |= figures
        self.history.append(row)
        if trainer.is_global_zero and trainer.progress_bar_callback is None:
            print(_line(row, trainer.max_epochs), flush=True)

    def summary(self, trainer: Trainer) -> list[str]:
        """The lines that end a run, once `trainer` has fitted and its progress bar is gone."""
        lines = ["", _sample_counts(trainer), HEADER]
        lines += [_line(row, trainer.max_epochs) for row in self.history]
        if not self.has_begun:
            lines.append(f"Nothing was trained: {_why_nothing(trainer)}")
        validated = [row for row in self.history if "val/accuracy" in row]
        if validated:
            last, best = validated[-1], max(validated, key=lambda row: row["val/accuracy"])
            if _tests(trainer):
                lines.append(f"Test loss: {last['val/loss']:.4f}")
                lines.append(f"Test accuracy: {last['val/accuracy']:.4f}")
            lines.append(
                f"Best val_accuracy: {best['val/accuracy']:.4f} (epoch {best['epoch']:.0f})"
            )
        if self.history:
            validation = sum(row.get("val_s", 0.0) for row in self.history)
            training = sum(row["s"] for row in self.history) - validation
            lines.append(f"Training took {training:.2f} s, validation {validation:.2f} s.")
        return lines if trainer.fast_dev_run else [*lines, *_left_behind(trainer)]  # type: ignore[attr-defined]


MODULE = "tensorboard.main"
MANY = 1000  # losses are looked at together
HEADER = "  epoch       s    loss  accuracy  val_loss  val_accuracy"


def _line(row: dict[str, float], max_epochs: int | None) -> str:
    columns = zip(CURVES, (8, 10, 10, 14), strict=True)
    figures = "".join(
        f" {row[tag]:{width - 1}.4f}" if tag in row else " " * (width - 1) + "-"
        for tag, width in columns
    )
    seconds = f"{row['s']:.{1 if row['s'] >= 1 else 3}f}"
    return f"{row['epoch']:4.0f}/{max_epochs:<3}{seconds:>7}{figures}"


def _why_nothing(trainer: Trainer) -> str:
    """Which setting left nothing to train, and how to train on."""
    if trainer.limit_train_batches == 0:
        return "--trainer.limit_train_batches 0 leaves no batch."
    reached = f"epoch {trainer.current_epoch} of --trainer.max_epochs {trainer.max_epochs}"
    if trainer.max_steps != -1 and trainer.global_step >= trainer.max_steps:
        reached = f"step {trainer.global_step} of --trainer.max_steps {trainer.max_steps}"
    return f"the run had already reached {reached}; raise it to train on."


def _left_behind(trainer: Trainer) -> Iterator[str]:
    """Where a run's files are, and how to go on from here. Commands are for a POSIX shell."""
    folder = run_folder(trainer)
    callbacks = trainer.checkpoint_callbacks
    best = [path for c in callbacks if (path := getattr(c, "best_model_path", ""))]
    last = folder / "checkpoints" / LAST
    files = [path for path in best if Path(path).exists()] or [str(last)] * last.exists()
    if files or trainer.loggers:
        yield ""
        yield f"Logs:        {folder}"
    for path in files:
        yield f"Checkpoint:  {path}"
    if files and not _tests(trainer):
        config = ["--config", str(folder / "config.yaml"), "--ckpt_path", files[-1]]
        yield f"Test it:     {shlex.join(['python', '-m', 'mnist_cnn', 'test', *config])}"
    for logger in trainer.loggers:
        yield f"Look at it:  {_look_at(logger)}"


def _look_at(logger: Logger) -> str:
    if isinstance(logger, TensorBoardLogger):
        # Also where the environment is not activated.
        program = ["tensorboard"] if which("tensorboard") else [sys.executable, "-m", MODULE]
        folder = os.path.expandvars(Path(logger.save_dir).expanduser())
        return shlex.join([*program, "--logdir", folder])
    if isinstance(logger, CSVLogger):
        return str(Path(logger.log_dir, ExperimentWriter.NAME_METRICS_FILE))
    return f"{type(logger).__name__}, {logger.log_dir or f'run {logger.version}'}"


def _sample_counts(trainer: Trainer) -> str:
    data = datamodule(trainer)
    if not isinstance(data, MNISTDataModule):
        return ""
    train, val = data.train_set.images, data.val_set.images
    origin = "the test images" if data.val_set is data.test_set else "held out of training"
    share = data.batch_size // trainer.world_size
    trained = _images(len(train), data.batch_size, trainer.limit_train_batches)
    return (
        f"Training images: {tuple(train.shape)}, validation images: {tuple(val.shape)}, {origin}\n"
        f"Train on {trained} samples, validate on {_validated(trainer, data)} samples, "
        f"in batches of {data.batch_size} = {trainer.world_size} device(s) x {share}"
    )


def _validated(trainer: Trainer, data: MNISTDataModule) -> int:
    """Images that a validation sees."""
    return _images(len(data.val_set), data.eval_batch_size, trainer.limit_val_batches)


def _images(there: int, batch_size: int, limit: float) -> int:
    """How many of the images a limit leaves: a number of batches, or as a float their share."""
    share = int(-(-there // batch_size) * limit) if isinstance(limit, float) else limit
    return min(there, share * batch_size)


def _tests(trainer: Trainer) -> bool:
    """Whether a validation of this run is a test: on the test images, and on all of them."""
    data = datamodule(trainer)
    return (
        isinstance(data, MNISTDataModule)
        and data.val_set is data.test_set
        and _validated(trainer, data) == len(data.test_set)
    )
