"""A run's folder: found, locked, and put back to where its checkpoint was written."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jsonargparse import Namespace
from lightning.pytorch import LightningDataModule, Trainer

from mnist_cnn.checkpoints.files import CheckpointError, read_checkpoint
from mnist_cnn.errors import UserError, warn
from mnist_cnn.training.randomness import global_seed

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

LAST, PREVIOUS = "last.ckpt", "previous.ckpt"
EVENT_FILES = "events.out.tfevents.*"
#: Loggers that have a folder for each run.
FILE_LOGGERS = ("TensorBoardLogger", "CSVLogger")


def run_folders(trainer: Namespace) -> list[Path]:
    """The folders of the runs that a trainer's configuration has made so far, or will make."""
    logger = file_logger(trainer)
    default = Path(trainer.default_root_dir or ".")
    if logger is None:
        if trainer.logger is True:
            return [folder for folder in default.glob("lightning_logs/*") if folder.is_dir()]
        return [default]
    init_args = logger.init_args
    root = Path(init_args.save_dir, init_args.get("name") or "")
    version = init_args.get("version")
    if version is None:
        return [folder for folder in root.glob("*") if folder.is_dir()]
    return [root / (version if isinstance(version, str) else f"version_{version}")]


def file_logger(trainer: Namespace) -> Namespace | None:
    """The configuration of the first logger, whose folder is the run's, if it is to files."""
    loggers = trainer.logger
    logger = loggers[0] if isinstance(loggers, list) and loggers else loggers
    known = isinstance(logger, Namespace) and logger.class_path.rpartition(".")[2] in FILE_LOGGERS
    return logger if known else None


def run_settings(trainer: Trainer, data: LightningDataModule | None) -> dict[str, Any]:
    """The settings, by their flags, on which depends what a numbered step sees."""
    hparams: dict[str, Any] = dict(data.hparams) if data else {}
    of_data = {f"data.{name}": hparams.get(name) for name in ("batch_size", "val_size", "dataset")}
    return {
        "seed_everything": global_seed(),
        "trainer.limit_train_batches": trainer.limit_train_batches,
        **of_data,
    }


def find_last(folders: list[Path]) -> tuple[Path, dict[str, Any]] | None:
    """The newest checkpoint that `LastCheckpoint` left in one of the runs' folders.

    Where the newest file is damaged the one before it is taken, with a warning.

    Args:
        folders: Folders of runs, each with its ``checkpoints``.

    Returns:
        The file and what is in it; None if no run has left one.

    Raises:
        CheckpointError: If there are files, all damaged.
    """
    damage: CheckpointError | None = None
    for folder in sorted(folders, key=_newest, reverse=True):
        for path in (folder / "checkpoints" / name for name in (LAST, PREVIOUS)):
            if not path.is_file():
                continue
            try:
                checkpoint = read_checkpoint(path)
            except CheckpointError as error:
                damage = error
                continue
            if damage:
                warn(f"{damage}; going on from {path}, which is older")
            return path, checkpoint
        if damage:  # not an older run: that would be another one
            raise damage
    return None


@contextlib.contextmanager
def lock_run(folder: Path) -> Iterator[None]:
    """Have a run's folder for this process alone; its end, however it ends, frees the folder.

    Without effect where the system or the file system knows no locks.

    Raises:
        UserError: If another process trains there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        try:
            if fcntl:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(f"another process trains in {folder}; wait for its end") from error
        except OSError:
            pass
        yield


def check_same_run(checkpoint: dict[str, Any], settings: dict[str, Any]) -> None:
    """Refuse to go on with a run under settings that make its steps another run's.

    Args:
        checkpoint: What `LastCheckpoint` wrote.
        settings: The present ones by the names of their flags.

    Raises:
        CheckpointError: If they differ from those that the run was started with.
    """
    then = checkpoint.get("settings", settings)
    different = [f"--{name} {then[name]}" for name in then if then[name] != settings.get(name)]
    if different:
        raise CheckpointError(
            f"--ckpt_path last: the run was started with {' '.join(different)}, and goes on only so"
        )


def _newest(folder: Path) -> float:
    files = [folder / "checkpoints" / name for name in (LAST, PREVIOUS)]
    return max((file.stat().st_mtime for file in files if file.is_file()), default=0.0)


def rewind_logs(folder: Path, checkpoint: dict[str, Any]) -> None:
    """Cut the event files of a run back to what they held when `checkpoint` was written.

    What was logged after it will be logged again. Without this TensorBoard would show it twice.

    Args:
        folder: The folder of the run's logs.
        checkpoint: What `LastCheckpoint` wrote.
    """
    sizes = checkpoint.get("log_files")
    if sizes is None:
        return
    for file in event_files(folder):
        if file.name not in sizes:
            file.unlink()
        elif file.stat().st_size > sizes[file.name]:
            os.truncate(file, sizes[file.name])


def event_files(folder: Path | None) -> Iterator[Path]:
    """TensorBoard's files of a run, in the order of their names."""
    return iter(sorted(folder.glob(EVENT_FILES))) if folder else iter(())
