"""What a command starts from: the checkpoint that ``--ckpt_path`` means."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from jsonargparse import Namespace
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import BatchSizeFinder, LearningRateFinder, ModelPruning
from lightning.pytorch.utilities import rank_zero_only

from mnist_cnn.checkpoints.files import (
    BUNDLED,
    SAFETENSORS,
    CheckpointError,
    check_fits,
    described_dataset,
    described_model,
    read_checkpoint,
)
from mnist_cnn.checkpoints.loggers import run_folders, share_folder, spell_out
from mnist_cnn.checkpoints.logs import rewind
from mnist_cnn.checkpoints.resume import LastCheckpoint
from mnist_cnn.checkpoints.run_folder import (
    LAST,
    find_best,
    find_last,
    lock_run,
)
from mnist_cnn.checkpoints.run_settings import check_same_run, run_settings
from mnist_cnn.errors import UserError, warn
from mnist_cnn.file_system.whole import on_disk
from mnist_cnn.training.trainer_state import run_folder

#: What Lightning calls its version in a checkpoint.
VERSION = "pytorch-lightning_version"
#: For Lightning to find.
LIGHTNINGS = ("hpc", "registry")


class Start(NamedTuple):
    """The checkpoint that a command starts from."""

    command: str
    path: str | None = None  # for Lightning; None: from the beginning
    content: dict[str, Any] | None = None  # None where Lightning is to find the file
    is_last: bool = False  # the user asked for the newest

    @property
    def settings(self) -> dict[str, Any]:
        """What it says of model and data: defaults, over which configurations and flags win."""
        described = described_model(self.content) if self.content else None
        if self.content is None or described is None:
            return {}
        settings = {f"model.{name}": value for name, value in described.items()}
        return settings | {"data.dataset": described_dataset(self.content)}

    @property
    def run(self) -> Path | None:
        """The folder of the run that goes on, if one does."""
        goes_on = self.command == "fit" and self.is_last and self.path
        return Path(self.path).parents[1] if goes_on and self.path else None

    def share_folder(self, trainer: Namespace) -> None:
        """Have all loggers of a trainer's configuration, which is changed, log into one folder."""
        spell_out(trainer)
        share_folder(trainer, self.run, (self.content or {}).get("loggers", {}))

    def check(self, model: LightningModule) -> None:
        """See that the checkpoint is one for this command and model.

        Raises:
            CheckpointError: If it is not.
        """
        if self.content is None or self.path is None:
            if self.is_last:
                warn("--ckpt_path last: there is no checkpoint yet, starting from the beginning")
            return
        if not self.path.endswith(SAFETENSORS) and VERSION not in self.content:
            raise CheckpointError(f"--ckpt_path {self.path} was not saved by Lightning")
        runs = {"loops", "optimizer_states"} <= self.content.keys()
        if self.command == "fit" and not runs:
            raise CheckpointError(
                f"--ckpt_path {self.path} holds weights, but not the run that made them: fit goes "
                "on from a .ckpt only"
            )
        try:
            check_fits(self.content, model, self.path)
        except CheckpointError as error:
            if self.path != str(BUNDLED):
                raise
            net = type(model.net).__name__
            raise CheckpointError(
                f"--ckpt_path is missing: where are the weights of this {net}?"
            ) from error
        if self.path == str(BUNDLED):
            rank_zero_only(print)("Without --ckpt_path: the included model", file=sys.stderr)

    @contextlib.contextmanager
    def run_folder(self, trainer: Trainer, data: LightningDataModule | None) -> Iterator[None]:
        """Have the folder of the trainer's run for this process alone while this is open.

        The logs of a run that goes on are put back to where its checkpoint was written.

        Raises:
            UserError: If the folder is another run's, or another process trains in it.
        """
        callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
        keeps = any(isinstance(callback, LastCheckpoint) for callback in callbacks)
        with contextlib.ExitStack() as until_the_end:
            if keeps and trainer.is_global_zero:
                folder = run_folder(trainer)
                until_the_end.enter_context(lock_run(folder))
                if (folder / "checkpoints" / LAST).exists() and not self.run:
                    raise UserError(
                        f"{folder} holds a run already: --ckpt_path last goes on with it, without "
                        "the version or ID in --trainer.logger a new one begins"
                    )
            finders = [c for c in callbacks if isinstance(c, (BatchSizeFinder, LearningRateFinder))]
            if self.run and finders:
                raise UserError(
                    f"--ckpt_path last: {type(finders[0]).__name__} would begin the run again; "
                    "leave it out"
                )
            if self.run and any(isinstance(c, ModelPruning) for c in callbacks):
                warn(
                    "ModelPruning keeps no masks in a checkpoint: what it had pruned may grow "
                    "again until it prunes next"
                )
            if self.run and self.content:
                check_same_run(self.content, run_settings(trainer, data))
                if trainer.is_global_zero:
                    rewind(trainer.loggers, self.content)
            with on_disk(run_folder(trainer)):
                yield


def choose(given: str | None, command: str, trainer: Namespace) -> Start:
    """Find and read the checkpoint that a command is to start from.

    Args:
        given: What the user gave as ``--ckpt_path``.
        command: A command of Lightning's. All but ``fit`` take the included model by default.
        trainer: The trainer's configuration, which says where runs are logged.

    Raises:
        UserError: If there is none, or it cannot be read.
    """
    if given is None and command != "fit":
        given = str(BUNDLED)
    if given == "last":
        path, content = find_last(run_folders(trainer)) or (None, None)
        if path is None and command != "fit":
            raise UserError("--ckpt_path last: no run has left a checkpoint yet")
        return Start(command, str(path) if path else None, content, is_last=True)
    if given == "best":
        given = str(find_best(run_folders(trainer)))
        rank_zero_only(print)(f"--ckpt_path best: {given}", file=sys.stderr)
    if given == "":
        raise UserError("--ckpt_path is empty")
    if not given or given in LIGHTNINGS or "://" in given:
        return Start(command, given)
    return Start(command, given, read_checkpoint(given))
