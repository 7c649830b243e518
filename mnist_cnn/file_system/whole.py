"""Files that are written whole or not at all, and why they cannot be, in the system's own words."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

from mnist_cnn.errors import UserError

#: A file system, or a user's share of it, that is full.
FULL = (errno.ENOSPC, errno.EDQUOT)


class UnwritableError(UserError):
    """A file cannot be written, for the reason that the message gives."""


def write_whole(path: str | Path, content: bytes | memoryview) -> None:
    """Write a file beside its place, and move it there when it is on the disk.

    Raises:
        UnwritableError: If it cannot be written. A file that was there is still there.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise UnwritableError(unwritable(path, error, len(content))) from error


def unwritable(path: Path, error: OSError, size: int | None = None) -> str:
    """A line on what cannot be written, why, and on a full disk where it is and what it lacks.

    Args:
        path: The file or folder.
        error: What the system said.
        size: Bytes that were to be written, where that is known.
    """
    line = f"{path}: cannot be written: {error.strerror or error}"
    if not is_full(error):
        return line
    folder = next(folder for folder in (path, *path.absolute().parents) if folder.is_dir())
    free = f"{_in_units(shutil.disk_usage(folder).free)} are free"
    return f"{line} in {folder}: {free}" + (f", {_in_units(size)} are needed" if size else "")


def _in_units(size: int) -> str:
    """A number of bytes for people.

    >>> _in_units(317), _in_units(47_040_016)
    ('0.3 kB', '47.0 MB')
    """
    return f"{size / 1e3:.1f} kB" if size < 1e6 else f"{size / 1e6:.1f} MB"


@contextlib.contextmanager
def on_disk(folder: Path) -> Iterator[None]:
    """Name the folder if its disk is found full while this is open; the system may name none.

    How much a log still needs nobody knows: how much there is already is the measure.

    Raises:
        UnwritableError: If it is.
    """
    show = threading.excepthook

    def show_others(thread: threading.ExceptHookArgs) -> None:
        # TensorBoard's writer hands its thread's error on, and it need not be shown twice.
        if not is_full(thread.exc_value):
            show(thread)

    threading.excepthook = show_others
    try:
        yield
    except OSError as error:
        if not is_full(error):
            raise
        sizes = (file.stat().st_size for file in folder.rglob("*") if file.is_file())
        raise UnwritableError(
            f"{unwritable(Path(error.filename or folder), error)}, the run's files have "
            f"{_in_units(sum(sizes))} so far"
        ) from error
    finally:
        threading.excepthook = show


def is_full(error: BaseException | None) -> bool:
    """Whether an error says that a file system is full."""
    return isinstance(error, OSError) and error.errno in FULL
