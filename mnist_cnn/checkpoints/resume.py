"""Exact resume: a run that was interrupted at any moment ends as if it had never been.

What a step sees and drops is a function of its number (see `randomness`), so a checkpoint has to
say where the run was, and no generator's state. `LastCheckpoint` writes it between two steps, when
everything of the one is done and nothing of the next: weights, optimizer, the metrics of the epoch
so far, and how far the log files had come. Going on means cutting the log files back to there and
starting with the next step.

It is not a ``ModelCheckpoint``: that saves within Lightning's hooks at the end of a step or an
epoch, where figures are still to be logged and schedules to be advanced, and never both every n
steps and every epoch.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins.environments import LightningEnvironment
from lightning.pytorch.plugins.io import TorchCheckpointIO

from mnist_cnn.checkpoints.atomic import AtomicCheckpointIO
from mnist_cnn.checkpoints.best import BestCheckpoint
from mnist_cnn.checkpoints.files import CheckpointError, link
from mnist_cnn.checkpoints.logs import noted
from mnist_cnn.checkpoints.run_folder import LAST, PREVIOUS
from mnist_cnn.checkpoints.run_settings import run_settings
from mnist_cnn.errors import UserError
from mnist_cnn.importing import SIGNALS
from mnist_cnn.training.trainer_state import (
    begin_epoch_afresh,
    begin_resumed_epoch,
    datamodule,
    forget_restart,
    forget_unbegun,
    gather,
    run_folder,
)


class LastCheckpoint(Callback):
    """Keeps the newest state of a run in ``last.ckpt``, and the one before in ``previous.ckpt``.

    On SIGTERM, Ctrl-C and SIGUSR1 the step that is under way is finished, saved, and the program
    leaves with the conventional exit status: 128 + the signal's number. A second Ctrl-C leaves at
    once.

    Must be the first callback of the trainer: what another one logs at the start of a step belongs
    to that step, and would be logged again after a resume.

    Args:
        every_n_train_steps: Optimizer steps from one save to the next; by default 100, and 1,000
            on a GPU. The end of an epoch saves too, and 0 leaves it at that.

    Raises:
        UserError: If `every_n_train_steps` is negative.
    """

    def __init__(self, every_n_train_steps: int | None = None) -> None:
        if every_n_train_steps is not None and every_n_train_steps < 0:
            raise UserError(
                f"--last_checkpoint.every_n_train_steps {every_n_train_steps}: must be at least 0"
            )
        self.every_n_train_steps = every_n_train_steps
        self.saved_step = 0
        self.last_is_intact = False  # last.ckpt is this run's own, and may become the previous one
        self.signal = 0  # that asked to stop
        self.validated = False  # since the last step
        self.resumed = False  # and nothing done since
        self.save_every = 0  # steps
        self.ask_every = 1  # batches, whether another process has been asked to stop
        self.figures: dict[str, Any] = {}  # that callbacks see, of the run before
        self.optimizers: list[str] = []  # of the run before

    def path(self, trainer: Trainer) -> Path:
        """Where ``last.ckpt`` is."""
        return run_folder(trainer) / "checkpoints" / LAST

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:  # not one of the user's
            trainer.strategy.checkpoint_io = AtomicCheckpointIO()
        taken = [Path(name).stem for name in (LAST, PREVIOUS)]
        for callback in trainer.checkpoint_callbacks[::-1] if stage == "fit" else []:
            # Lightning's own choice is the first logger's, which need not be the run's folder.
            if isinstance(callback, ModelCheckpoint) and callback.dirpath is None:
                callback.dirpath = str(self.path(trainer).parent)
                if callback.filename in taken:
                    raise UserError(
                        f"ModelCheckpoint's filename {callback.filename}: a run has that file "
                        "anyhow; --best_checkpoint has the settings of the best one"
                    )
                taken += [str(callback.filename)] if isinstance(callback, BestCheckpoint) else []

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        self.figures = checkpoint.get("figures", {})
        self.optimizers = checkpoint.get("optimizers", [])
        self.resumed = True

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        trainer.callback_metrics.update(self.figures)  # of a validation within the epoch
        on_gpu = pl_module.device.type == "cuda"  # there a hundred steps may take 30 ms
        default = 1000 if on_gpu else 100
        self.save_every = default if (n := self.every_n_train_steps) is None else n
        self.ask_every = 20 if on_gpu else 1
        classes = _classes(trainer.optimizers)
        if self.optimizers and self.optimizers != classes:
            then, now = ", ".join(self.optimizers), ", ".join(classes)
            raise UserError(
                f"--ckpt_path {trainer.ckpt_path} has the state of {then}, with which {now} cannot "
                "go on: leave --model.optimizer as it was"
            )
        steps = gather(trainer, trainer.global_step)
        if len(set(steps)) > 1:
            raise CheckpointError(f"the processes resumed at different steps: {steps}")
        path = self.path(trainer)
        self.saved_step = trainer.global_step
        self.last_is_intact = Path(trainer.ckpt_path or "").resolve() == path.resolve()
        if trainer.global_step == 0:  # so that there is something to go on from, whatever happens
            if trainer.is_global_zero:
                path.with_name(PREVIOUS).unlink(missing_ok=True)  # another run's
            self._save(trainer)
        begin_epoch_afresh(trainer)
        # Not Lightning's handlers: that of SIGTERM starts a collective operation in the middle of
        # whatever else is going on, that of SLURM saves in the middle of a step.
        for number in SIGNALS:
            signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, frame: Any) -> None:
        if self.signal == number == signal.SIGINT:
            os._exit(128 + number)
        self.signal = number

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._begin_if_resumed(trainer, pl_module)
        if trainer.global_step > self.saved_step:
            self._save(trainer)
        self._stop_if_asked(trainer)

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self._begin_if_resumed(trainer, pl_module)
        forget_restart(trainer)
        # Lightning resumes inexactly where a validation within the epoch has just ended, and keeps
        # no gradients of a step that is accumulated from several batches: wait for a better place.
        between = not self.validated and batch_idx % trainer.accumulate_grad_batches == 0
        self.validated = False
        if not between or batch_idx == 0:
            return
        steps = trainer.global_step - self.saved_step
        if steps and steps >= self.save_every > 0:
            self._save(trainer)
        if trainer.world_size == 1 or batch_idx % self.ask_every == 0:
            self._stop_if_asked(trainer)

    def _begin_if_resumed(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.resumed:
            begin_resumed_epoch(trainer, pl_module)
            self.resumed = False

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.validated = True

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.global_step > self.saved_step:
            self._save(trainer)

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        forget_unbegun(checkpoint, trainer.num_training_batches)
        checkpoint["settings"] = run_settings(trainer, datamodule(trainer))
        checkpoint["figures"] = dict(trainer.callback_metrics)
        checkpoint["optimizers"] = _classes(trainer.optimizers)
        if trainer.is_global_zero:
            checkpoint |= noted(trainer.loggers)

    def _save(self, trainer: Trainer) -> None:
        path = self.path(trainer)
        if trainer.is_global_zero and self.last_is_intact:
            link(path, path.with_name(PREVIOUS))
        trainer.save_checkpoint(path, weights_only=False)
        self.saved_step, self.last_is_intact = trainer.global_step, True

    def _stop_if_asked(self, trainer: Trainer) -> None:
        # All processes stop at the same step, whichever of them the signal reached.
        asked = self.signal
        if trainer.world_size > 1:
            mine = torch.tensor(self.signal, device=trainer.strategy.root_device)
            asked = int(trainer.strategy.reduce(mine, reduce_op="max"))
        if not asked:
            return
        number = signal.Signals(asked)
        if trainer.global_step > self.saved_step:
            self._save(trainer)
        if trainer.is_global_zero:
            print(
                f"{number.name}: stopped after step {trainer.global_step}, saved in "
                f"{self.path(trainer)}; the same command with --ckpt_path last goes on",
                file=sys.stderr,
            )
        # Lightning takes a process that it started and that fails for a reason to kill them all.
        started = trainer.local_rank > 0 and isinstance(
            trainer.strategy.cluster_environment,  # type: ignore[attr-defined]
            LightningEnvironment,
        )
        raise SystemExit(0 if started else 128 + number)


def _classes(optimizers: list[Any]) -> list[str]:
    return [type(optimizer).__name__ for optimizer in optimizers]
