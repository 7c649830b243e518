"""A run's folder: found, locked, and put back to where its checkpoint was written."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mnist_cnn.checkpoints.files import CheckpointError, read_checkpoint
from mnist_cnn.training.runs import warn

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

LAST, PREVIOUS = "last.ckpt", "previous.ckpt"
EVENT_FILES = "events.out.tfevents.*"


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
        ValueError: If another process trains there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        try:
            if fcntl:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ValueError(f"another process trains in {folder}; wait for its end") from error
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
