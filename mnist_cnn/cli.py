"""The command line: Lightning's, with this project's classes, checks and error messages."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any, NoReturn

from jsonargparse import Namespace
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.accelerators import CPUAccelerator
from lightning.pytorch.callbacks import (
    Checkpoint,
    LearningRateMonitor,
    ModelCheckpoint,
    ProgressBar,
    WeightAveraging,
)
from lightning.pytorch.cli import (
    ArgsType,
    LightningArgumentParser,
    LightningCLI,
    SaveConfigCallback,
)
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from mnist_cnn import __version__
from mnist_cnn.checkpoints.files import (
    SAFETENSORS,
    SHIPPED,
    CheckpointError,
    check_fits,
    described_model,
    read_checkpoint,
)
from mnist_cnn.checkpoints.resume import LastCheckpoint
from mnist_cnn.checkpoints.run_folder import check_same_run, find_last, lock_run, rewind_logs
from mnist_cnn.data import MNISTDataModule
from mnist_cnn.model import MNISTClassifier
from mnist_cnn.reports.console import Report
from mnist_cnn.reports.tensorboard import TensorBoardViews
from mnist_cnn.training.global_batches import check_global_batch
from mnist_cnn.training.runs import log_dir, run_settings, warn
from mnist_cnn.use.predict import PredictionWriter

#: What a command does that is given no configuration: the published run, as in configs/cnn.yaml.
DEFAULTS = {
    "model.net": {"class_path": "mnist_cnn.KerasCNN"},
    "trainer.max_epochs": 12,
    "trainer.logger": {
        "class_path": "lightning.pytorch.loggers.TensorBoardLogger",
        "init_args": {
            "save_dir": "tb_logs",
            "name": "cnn",
            "default_hp_metric": False,
            "log_graph": True,
        },
    },
    "trainer.num_sanity_val_steps": 0,
    "best_checkpoint.monitor": "val/accuracy",
    "best_checkpoint.mode": "max",
    "best_checkpoint.filename": "best",
    "best_checkpoint.save_on_train_epoch_end": True,
    "best_checkpoint.enable_version_counter": False,
}
#: Loggers that have a folder for each run.
FILE_LOGGERS = ("TensorBoardLogger", "CSVLogger")
#: Processes a core; beyond it they only wait for each other.
MAX_PROCESSES_PER_CORE = 2
#: Where Linux says what the CPU can do.
CPU_INFO = Path("/proc/cpuinfo")
#: Exit status of ``predict`` if some pictures could not be used. 1 and 2: nothing was predicted.
SOME_FAILED = 3


class ArgumentParser(LightningArgumentParser):
    """Takes no abbreviations, and says what is wrong in two lines instead of a page of usage."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, allow_abbrev=False, **kwargs)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        if not self.exit_on_error:  # a part of another parser, which handles it
            super().error(message, ex)
        if debugging() and ex is not None:
            raise ex
        parser = getattr(ex, "subcommand_parser", None) or self
        print(f"error: {' '.join(message.split())}", file=sys.stderr)
        print(f"(all options: {parser.prog.replace(' [options]', '')} --help)", file=sys.stderr)
        sys.exit(2)


class SaveConfig(SaveConfigCallback):
    """Saves the configuration beside the logs; without a logger there is no such place."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if trainer.loggers:
            super().setup(trainer, pl_module, stage)


class MNISTCLI(LightningCLI):
    """``fit``, ``validate``, ``test`` and ``predict`` on MNIST."""

    def __init__(self, args: ArgsType = None) -> None:
        given = sys.argv[1:] if args is None else args
        #: What the command line begins with.
        self.first_argument = given[0] if isinstance(given, list) and given else None
        super().__init__(
            MNISTClassifier,
            MNISTDataModule,
            args=args,
            save_config_callback=SaveConfig,
            save_config_kwargs={"overwrite": True},
            seed_everything_default=1,
            parser_class=ArgumentParser,
            parser_kwargs={
                "prog": "mnist-cnn",
                "version": __version__,
                "description": "Train, test and use the classic Keras MNIST CNN.",
                "epilog": "serve, export, import-keras and export-keras have a --help of their "
                "own. --debug, or MNIST_CNN_DEBUG=1, shows the traceback of an error.",
            },
            auto_configure_optimizers=False,
        )

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        # Checkpoints are always loaded as weights only: see _prepare_subcommand_kwargs.
        commands = LightningCLI.subcommands()
        return {name: skipped | {"weights_only"} for name, skipped in commands.items()}

    def _prepare_subcommand_parser(
        self, klass: type, subcommand: str, **kwargs: Any
    ) -> LightningArgumentParser:
        # All options of a command take a tenth of a second: make those that are asked for.
        if self.first_argument in {"-h", "--help", *self.subcommands()} - {subcommand}:
            return self.init_parser(**kwargs)
        return super()._prepare_subcommand_parser(klass, subcommand, **kwargs)

    def _prepare_subcommand_kwargs(self, subcommand: str) -> dict[str, Any]:
        arguments = super()._prepare_subcommand_kwargs(subcommand) | {"weights_only": True}
        if str(arguments["ckpt_path"]).endswith(SAFETENSORS) and self.checkpoint is not None:
            self.model.load_state_dict(self.checkpoint["state_dict"])
            arguments["ckpt_path"] = None  # Lightning reads checkpoints of its own only
        return arguments

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        # Keys of their own, so that a configuration with other trainer.callbacks keeps them.
        parser.add_lightning_class_args(ModelCheckpoint, "best_checkpoint")
        parser.add_lightning_class_args(LastCheckpoint, "last_checkpoint")
        parser.add_lightning_class_args(TensorBoardViews, "tensorboard")
        parser.add_lightning_class_args(PredictionWriter, "predictions")
        parser.set_defaults(DEFAULTS)

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse; a checkpoint of this project's nets says which net it holds.

        Its settings are defaults: a configuration file and a flag win over them.
        """
        super().parse_arguments(parser, args)
        command = self.config.subcommand
        self.checkpoint = None
        path = given = self.config[command].get("ckpt_path")
        if given is None and command != "fit":
            path = given = str(SHIPPED)
        if given == "last":
            path, self.checkpoint = find_last(run_folders(self.config[command])) or (None, None)
            if path is None and command != "fit":
                raise ValueError("--ckpt_path last: no run has left a checkpoint yet")
        elif given and given not in ("best", "hpc", "registry") and "://" not in given:
            self.checkpoint = read_checkpoint(given)  # the others are for Lightning to find
        if self.checkpoint and (described := described_model(self.checkpoint)):
            defaults = {f"model.{name}": value for name, value in described.items()}
            self._subcommand_parsers[command].set_defaults(defaults)
            super().parse_arguments(parser, args)
        self.config[command].ckpt_path = str(path) if path else None
        self.asked_for_last = given == "last"
        #: The folder of the run that goes on.
        self.continued: Path | None = None
        if path and given == "last" and command == "fit":
            self.continued = path.parent.parent

    def before_instantiate_classes(self) -> None:
        """Let a run that goes on log where it did."""
        config = self.config[self.config.subcommand]
        self.to_save = config.clone()
        if self.continued:
            # What is saved beside the logs makes the run from its beginning.
            self.to_save.ckpt_path = None
            if logger := _file_logger(config):
                logger.init_args.version = self.continued.name
                if "log_graph" in logger.init_args:
                    logger.init_args.log_graph = False  # the logs have it

    def _parse_ckpt_path(self) -> None:
        """Not as Lightning: there, what a checkpoint stores wins over the user's flags."""

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        trainer_config = self._get(self.config_init, "trainer")
        bars = [c for c in trainer_config["callbacks"] or [] if isinstance(c, ProgressBar)]
        if not (bars or sys.stdout.isatty()) and trainer_config["enable_progress_bar"] is None:
            kwargs["enable_progress_bar"] = False
        try:
            return super().instantiate_trainer(**kwargs)
        except MisconfigurationException as error:
            flags = ("accelerator", "devices", "strategy", "precision")
            given = ", ".join(f"--trainer.{flag} {trainer_config[flag]}" for flag in flags)
            raise ValueError(f"{error} ({given})") from error

    def _instantiate_trainer(self, config: dict[str, Any], callbacks: list[Any]) -> Trainer:
        if config["enable_checkpointing"] is False or config["fast_dev_run"]:
            callbacks = [c for c in callbacks if not isinstance(c, (Checkpoint, LastCheckpoint))]
        self.report = Report()
        callbacks = [*callbacks, self.report]
        if config["logger"]:
            callbacks.append(LearningRateMonitor())
        trainer = super()._instantiate_trainer(config, callbacks)
        # It has to be the first.
        callbacks = trainer.callbacks  # type: ignore[attr-defined]
        callbacks.sort(key=lambda callback: not isinstance(callback, LastCheckpoint))
        for callback in callbacks:
            if isinstance(callback, SaveConfig):
                callback.config = self.to_save
            if isinstance(callback, WeightAveraging) and callback._device is None:
                # Lightning makes the average while the model is still on the CPU, and leaves it.
                callback._device = trainer.strategy.root_device
        return trainer

    def _run_subcommand(self, subcommand: str) -> None:
        """Check what can be checked before any process, file or step is started."""
        check_cores(self.trainer)
        check_bf16(self.trainer)
        if self.trainer.overfit_batches:  # type: ignore[attr-defined]
            raise ValueError(
                "--trainer.overfit_batches changes which images a step sees, and is not supported; "
                "--trainer.limit_train_batches trains on less"
            )
        if subcommand == "fit":
            data = self.datamodule
            check_global_batch(data.batch_size, self.trainer.world_size, data.chunks)
            if data.chunks and any("BatchNorm" in type(m).__name__ for m in self.model.modules()):
                raise ValueError(
                    "--data.chunks is not for nets with batch normalisation, which needs the batch "
                    "as a whole; its statistics are the same on any number of devices without it"
                )
            if data.chunks and self.trainer.precision in ("16-mixed", "16-true"):
                raise ValueError("--data.chunks is not for --trainer.precision 16: take bf16-mixed")
        check_writable(self.trainer)
        with contextlib.ExitStack() as until_the_end:
            if subcommand == "fit" and self.trainer.is_global_zero:
                self._take_folder(until_the_end)
            self._check_checkpoint(subcommand)
            if subcommand != "fit":  # they write beside the run that made the checkpoint
                warnings.filterwarnings("ignore", "The dirpath has changed")
            super()._run_subcommand(subcommand)

    def _check_checkpoint(self, subcommand: str) -> None:
        """See that the checkpoint is one for this command, and the logs are where it was."""
        if self.checkpoint is None:
            if self.asked_for_last:
                warn("--ckpt_path last: there is no checkpoint yet, starting from the beginning")
            return
        path = self.config[subcommand].ckpt_path
        if subcommand == "fit" and str(path).endswith(SAFETENSORS):
            raise CheckpointError(
                f"--ckpt_path {path} holds weights, but not the run that made them: fit goes on "
                "from a .ckpt only"
            )
        try:
            check_fits(self.checkpoint, self.model, path)
        except CheckpointError as error:
            if path != str(SHIPPED):
                raise
            net = type(self.model.net).__name__
            raise CheckpointError(
                f"--ckpt_path is missing: where are the weights of this {net}?"
            ) from error
        if path == str(SHIPPED) and self.trainer.is_global_zero:
            print("Without --ckpt_path: the model that comes along", file=sys.stderr)
        if self.continued:
            warnings.filterwarnings("ignore", "Checkpoint directory .* exists and is not empty")
            check_same_run(self.checkpoint, run_settings(self.trainer, self.datamodule))
            if self.trainer.is_global_zero and log_dir(self.trainer):
                rewind_logs(self.continued, self.checkpoint)

    def _take_folder(self, until_the_end: contextlib.ExitStack) -> None:
        """Make sure that the run's folder is this process's alone, and no other run's."""
        callbacks = self.trainer.callbacks  # type: ignore[attr-defined]
        for callback in callbacks:
            if isinstance(callback, LastCheckpoint):
                path = callback.path(self.trainer)
                if log_dir(self.trainer):
                    until_the_end.enter_context(lock_run(path.parent.parent))
                if path.exists() and not self.continued and log_dir(self.trainer):
                    raise ValueError(
                        f"{path.parent.parent} holds a run already: --ckpt_path last goes on with "
                        "it, another --trainer.logger.init_args.version begins a new one"
                    )

    def after_predict(self) -> None:
        """End with a status of its own if pictures could not be used; the others are written."""
        callbacks = self.trainer.callbacks  # type: ignore[attr-defined]
        if any(c.failures for c in callbacks if isinstance(c, PredictionWriter)):
            sys.exit(SOME_FAILED)

    def after_fit(self) -> None:
        if self.trainer.is_global_zero:
            print(*self.report.summary(self.trainer), sep="\n", flush=True)


def check_cores(trainer: Trainer) -> None:
    """Refuse more CPU processes than make sense on this machine.

    Raises:
        ValueError: If there are more than two for a core.
    """
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    most = MAX_PROCESSES_PER_CORE * cores
    if isinstance(trainer.accelerator, CPUAccelerator) and trainer.num_devices > most:
        raise ValueError(
            f"--trainer.devices {trainer.num_devices}: each is a process, and this machine has "
            f"{cores} core(s); use at most {most}"
        )


def check_bf16(trainer: Trainer) -> None:
    """Warn if products in bf16 are asked of a CPU that has none, and imitates them slowly."""
    if not (isinstance(trainer.accelerator, CPUAccelerator) and "bf16" in str(trainer.precision)):
        return
    info = CPU_INFO.read_text() if CPU_INFO.exists() else ""
    if re.search(r"^flags\b", info, re.MULTILINE) and not re.search(r"\b(avx512|amx)_bf16\b", info):
        warn(
            f"--trainer.precision {trainer.precision}: this CPU has no instructions for bf16, and "
            "takes many times as long so: use --trainer.precision 32-true"
        )


def check_writable(trainer: Trainer) -> None:
    """Refuse a folder for logs that cannot be written.

    Raises:
        ValueError: If a file cannot be made there.
    """
    for logger in trainer.loggers if trainer.is_global_zero else []:
        folder = Path(getattr(logger, "root_dir", None) or logger.save_dir or ".")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=folder).close()
        except OSError as error:
            raise ValueError(
                f"--trainer.logger.init_args.save_dir: cannot write logs to {folder}: {error}"
            ) from error


def run_folders(config: Namespace) -> list[Path]:
    """The folders of the runs that this configuration has made so far, or will make."""
    logger = _file_logger(config)
    default = Path(config.trainer.default_root_dir or ".")
    if logger is None:
        if config.trainer.logger is True:
            return [folder for folder in default.glob("lightning_logs/*") if folder.is_dir()]
        return [default]
    init_args = logger.init_args
    save_dir = os.path.expandvars(Path(init_args.save_dir).expanduser())
    root = Path(save_dir, init_args.get("name") or "")
    version = init_args.get("version")
    if version is None:
        return [folder for folder in root.glob("*") if folder.is_dir()]
    return [root / (version if isinstance(version, str) else f"version_{version}")]


def _file_logger(config: Namespace) -> Namespace | None:
    """The configuration of the first logger, whose folder is the run's, if it is to files."""
    loggers = config.trainer.logger
    logger = loggers[0] if isinstance(loggers, list) and loggers else loggers
    known = isinstance(logger, Namespace) and logger.class_path.rpartition(".")[2] in FILE_LOGGERS
    return logger if known else None


def debugging() -> bool:
    """Whether the user wants tracebacks."""
    return os.environ.get("MNIST_CNN_DEBUG", "0") not in ("", "0")
