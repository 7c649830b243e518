"""How far the logs of a run had come at its checkpoint, and how they are put back to there.

What was logged after the checkpoint will be logged again. Without this it would be there twice.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter

from mnist_cnn.checkpoints.loggers import numbered

EVENT_FILES = "events.out.tfevents.*"


def noted(loggers: Sequence[Logger]) -> dict[str, Any]:
    """What a checkpoint is to say of the logs: how far they are, and by what a run is found again.

    Args:
        loggers: Of rank 0. They are made to write what they hold back.

    Returns:
        ``log_files``, the bytes of each event file by its name, and ``loggers``, by class and
        number: ``run``, the run's version or ID, and of a ``CSVLogger`` its ``table`` as a text,
        since it writes its file anew when a column is added.
    """
    for logger in loggers:
        logger.save()
    return {
        "log_files": {
            file.name: file.stat().st_size for logger in loggers for file in event_files(logger)
        },
        "loggers": {
            key: {"run": _plain(logger.version), "table": _table(logger)}
            for key, logger in _by_key(loggers)
        },
    }


def rewind(loggers: Sequence[Logger], checkpoint: dict[str, Any]) -> None:
    """Put the logs of a run back to what they held when `checkpoint` was written.

    Args:
        loggers: Those of the run that goes on, on rank 0, before they have logged anything.
        checkpoint: What `LastCheckpoint` wrote.
    """
    sizes: dict[str, int] | None = checkpoint.get("log_files")  # None: another program's
    then = checkpoint.get("loggers", {})
    for key, logger in _by_key(loggers):
        if sizes is not None:
            _cut_back(logger, sizes)
        if isinstance(logger, CSVLogger):
            # A table that the checkpoint does not know is left as it is.
            table = then.get(key, {}).get("table", _table(logger))
            writer = logger.experiment  # deletes the file
            if table:
                with open(writer.metrics_file_path, "w", encoding="utf-8", newline="") as file:
                    file.write(table)
                writer.metrics_keys = next(csv.reader([table.splitlines()[0]]))


def _cut_back(logger: Logger, sizes: dict[str, int]) -> None:
    for file in event_files(logger):
        if file.name not in sizes:
            file.unlink()
        elif file.stat().st_size > sizes[file.name]:
            os.truncate(file, sizes[file.name])


def event_files(logger: Logger) -> Iterator[Path]:
    """The files of a ``TensorBoardLogger``'s run, in the order of their names."""
    if isinstance(logger, TensorBoardLogger):
        yield from sorted(Path(logger.log_dir).glob(EVENT_FILES))


def _table(logger: Logger) -> str | None:
    if not isinstance(logger, CSVLogger):
        return None
    path = Path(logger.log_dir, ExperimentWriter.NAME_METRICS_FILE)
    if not path.is_file():
        return None
    with path.open(encoding="utf-8", newline="") as file:
        return file.read()


def _plain(version: Any) -> int | str | None:
    """What may stand in a checkpoint, which is read as weights only."""
    return version if version is None or isinstance(version, int) else str(version)


def _by_key(loggers: Sequence[Logger]) -> Iterator[tuple[str, Logger]]:
    return zip(numbered([type(logger).__name__ for logger in loggers]), loggers, strict=True)
