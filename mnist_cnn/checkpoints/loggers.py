"""One run, one folder, whatever it logs with: where a configuration's loggers keep their runs."""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from jsonargparse import Namespace
from lightning.pytorch.loggers import CSVLogger, Logger

from mnist_cnn.errors import warn

#: Lightning's own, for runs whose loggers have no name for them.
NAME = "lightning_logs"


class Arguments(NamedTuple):
    """The names of a logger's arguments."""

    folder: str  # where it writes
    group: str  # what its runs belong to
    run: str  # one of them, to go on with


#: MLFlowLogger's save_dir is MLflow's own store, and mostly without effect.
ARGUMENTS = {
    "WandbLogger": Arguments("save_dir", "project", "version"),
    "MLFlowLogger": Arguments("", "experiment_name", "run_id"),
    "CometLogger": Arguments("offline_directory", "project", "experiment_key"),
    "Logger": Arguments("save_dir", "name", "version"),
}


class ConfiguredLogger:
    """A logger as the configuration has it, before it is made."""

    def __init__(self, config: Namespace) -> None:
        module, _, name = config.class_path.rpartition(".")
        kind = getattr(import_module(module), name)
        self.name = name
        self.settings = config.init_args
        #: Whether it has a folder for each run, and does not send the figures elsewhere.
        self.keeps_files = getattr(kind, "log_dir", None) is not Logger.log_dir
        known = [base.__name__ for base in kind.__mro__ if base.__name__ in ARGUMENTS]
        self.arguments = ARGUMENTS[known[0] if known else "Logger"]

    def get(self, argument: str) -> Any:
        return self.settings.get(argument) if argument else None

    @property
    def run(self) -> str | None:
        """The name of a run's folder, if the user named the run."""
        run = self.get(self.arguments.run)
        run = self.get("id") if run is None else run  # Weights & Biases': the same
        return f"version_{run}" if isinstance(run, int) else run

    def go_on_with(self, run: Any) -> bool:
        """Whether it can go on with a run, and will."""
        possible = run is not None and self.arguments.run in self.settings
        if possible:
            self.settings[self.arguments.run] = run
        return possible


def configured_loggers(trainer: Namespace) -> list[ConfiguredLogger]:
    """The loggers of a trainer's configuration, that which decides on the folder first."""
    given = trainer.logger if isinstance(trainer.logger, list) else [trainer.logger]
    loggers = [ConfiguredLogger(logger) for logger in given if isinstance(logger, Namespace)]
    return sorted(loggers, key=lambda logger: not logger.keeps_files)


def spell_out(trainer: Namespace) -> None:
    """Say in a trainer's configuration what Lightning takes ``logger: true`` for."""
    if trainer.barebones:
        trainer.logger = False
    elif trainer.logger in (None, True):
        init_args = Namespace(
            save_dir=trainer.default_root_dir or ".",
            name=NAME,
            version=None,
            default_hp_metric=False,
        )
        path = "lightning.pytorch.loggers.TensorBoardLogger"
        trainer.logger = Namespace(class_path=path, init_args=init_args)


def group_folder(trainer: Namespace) -> Path:
    """The folder of all runs that a trainer's configuration makes."""
    folder, name = None, NAME
    if loggers := configured_loggers(trainer):
        first = loggers[0]
        folder = first.get(first.arguments.folder)
        name = first.get(first.arguments.group) or ("" if first.keeps_files else NAME)
    folder = Path(folder or trainer.default_root_dir or ".")
    return Path(os.path.expandvars(folder.expanduser()), name)


def run_folders(trainer: Namespace) -> list[Path]:
    """The folders of the runs that a trainer's configuration has made so far, or will make."""
    group, loggers = group_folder(trainer), configured_loggers(trainer)
    if loggers and loggers[0].run:
        return [group / loggers[0].run]
    return [folder for folder in group.glob("*") if folder.is_dir()]


def share_folder(trainer: Namespace, run: Path | None, noted: dict[str, Any]) -> None:
    """Have all loggers of a trainer's configuration keep a run in one folder.

    Args:
        trainer: The configuration, which is changed.
        run: The folder of the run that goes on; None for a new one.
        noted: What the run's checkpoint says of its loggers: see `logs.noted`.
    """
    loggers, group = configured_loggers(trainer), group_folder(trainer)
    files = [logger for logger in loggers if logger.keeps_files]
    if run is None and len(loggers) == len(files) == 1:
        return  # Lightning counts the versions when the run begins
    given = loggers[0].run if loggers else None
    name = run.name if run else given or Path(CSVLogger(group, name="").log_dir).name
    for logger in files:
        theirs = (logger.get("save_dir"), logger.get("name"))
        if theirs == (files[0].get("save_dir"), NAME):  # they were given no name of their own
            logger.settings.name = files[0].get("name")
        if logger is files[0] or logger.run is None:
            logger.go_on_with(name)
        if run and "log_graph" in logger.settings:
            logger.settings.log_graph = False  # the logs have it
    if not files:
        trainer.default_root_dir = str(group / name)
    for key, logger in zip(numbered([logger.name for logger in loggers]), loggers, strict=True):
        if not run or logger.keeps_files:
            continue
        if logger.go_on_with(logger.run or noted.get(key, {}).get("run")):
            warn(
                f"{logger.name} goes on with run {logger.run}: what it was sent after the "
                "checkpoint stays there, and is sent again"
            )
        else:
            warn(f"{logger.name} begins another run: it does not go on with one")


def numbered(names: list[str]) -> list[str]:
    """Names with the number of their occurrence, so that none is twice."""
    return [f"{name} {names[:i].count(name)}" for i, name in enumerate(names)]
