"""A run's folder: its newest checkpoint found, and locked for one process."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mnist_cnn.checkpoints.files import CheckpointError, read_checkpoint
from mnist_cnn.errors import UserError, warn
from mnist_cnn.settings import config_files

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

LAST, PREVIOUS = "last.ckpt", "previous.ckpt"


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


def find_best(folders: list[Path]) -> Path:
    """The best checkpoint of the newest run.

    Args:
        folders: Folders of runs, each with its ``checkpoints``.

    Raises:
        CheckpointError: If there is no run, it has none, or its checkpoints are damaged.
    """
    found = find_last(folders)
    if found is None:
        raise CheckpointError("--ckpt_path best: no run has left a checkpoint yet")
    last, content = found
    names = [state.get("best_model_path") for state in content.get("callbacks", {}).values()]
    for named in map(Path, filter(None, names)):
        for path in (last.with_name(named.name), named):  # the folder may have been moved
            if path.is_file():
                return path
    raise CheckpointError(f"--ckpt_path best: the newest run has no best checkpoint, only {last}")


def newest(given: str) -> str:
    """`find_newest` in ``cnn.yaml``'s folder of runs; says which file is meant."""
    logs = config_files.defaults()["trainer.logger"]["init_args"]["save_dir"]
    if (path := find_newest(given, logs)) != given:
        print(f"checkpoint {given}: {path}", file=sys.stderr)
    return path


def find_newest(given: str, logs: str | Path) -> str:
    """The checkpoint that a command without a trainer is given: ``last`` and ``best`` as a file.

    Args:
        given: A path; or one of the two words, for the run that was trained last, whatever its
            name.
        logs: A folder with runs, at any depth.

    Raises:
        CheckpointError: If no run has left such a checkpoint.
    """
    if given not in ("last", "best"):
        return given
    runs = [checkpoints.parent for checkpoints in Path(logs).rglob("checkpoints")]
    if (found := find_last(runs)) is None:
        raise CheckpointError(
            f"checkpoint {given}: no run in {Path(logs).absolute()} has left one; give its path"
        )
    return str(found[0] if given == "last" else find_best(runs))


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


def _newest(folder: Path) -> float:
    files = [folder / "checkpoints" / name for name in (LAST, PREVIOUS)]
    return max((file.stat().st_mtime for file in files if file.is_file()), default=0.0)
