"""The command line: Lightning's, with this project's classes."""

from __future__ import annotations

import sys
import warnings
from typing import Any

from lightning import __version__ as lightning_version
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import LearningRateMonitor, ProgressBar
from lightning.pytorch.cli import (
    ArgsType,
    LightningArgumentParser,
    LightningCLI,
)
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from mnist_cnn import __version__
from mnist_cnn.checkpoints.best import BestCheckpoint
from mnist_cnn.checkpoints.files import SAFETENSORS
from mnist_cnn.checkpoints.resume import LastCheckpoint
from mnist_cnn.checkpoints.run_settings import SaveConfig
from mnist_cnn.checkpoints.start import choose
from mnist_cnn.data import MNISTDataModule
from mnist_cnn.errors import UserError
from mnist_cnn.model import MNISTClassifier
from mnist_cnn.reports.console import Report
from mnist_cnn.reports.progress import TrainingBar
from mnist_cnn.reports.tensorboard import TensorBoardViews
from mnist_cnn.settings import config_files, hints
from mnist_cnn.settings.hints import ArgumentParser
from mnist_cnn.training import preflight
from mnist_cnn.use.prediction_writer import PredictionWriter


class MNISTCLI(LightningCLI):
    """``fit``, ``validate``, ``test`` and ``predict`` on MNIST."""

    subcommand: str

    def __init__(self, args: ArgsType = None) -> None:
        given = sys.argv[1:] if args is None else args
        #: What the command line begins with.
        self.first_argument = given[0] if isinstance(given, list) and given else None
        config_files.Afresh.install()
        super().__init__(
            MNISTClassifier,
            MNISTDataModule,
            args=args,
            save_config_callback=SaveConfig,
            save_config_kwargs={"save_to_log_dir": False},
            parser_class=ArgumentParser,
            parser_kwargs={
                "prog": "mnist-cnn",
                "version": __version__,
                "description": "Train, test and use the classic Keras MNIST CNN.",
                "epilog": "configs lists the configurations. predict PICTURES, serve, export, "
                "import-keras and export-keras have a --help of their own. --debug, or "
                "MNIST_CNN_DEBUG=1, shows the traceback of an error.",
            },
            auto_configure_optimizers=False,
        )

    # To make a command's options takes a tenth of a second: only the given command's are made.
    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]
        commands = LightningCLI.subcommands()
        return (
            {self.first_argument: commands[self.first_argument]}
            if self.first_argument in commands
            else commands
        )

    def add_core_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        if self.first_argument not in ("-h", "--help"):
            super().add_core_arguments_to_parser(parser)

    def init_parser(self, **kwargs: Any) -> LightningArgumentParser:
        kwargs.setdefault(
            "dump_header", [f"mnist_cnn=={__version__} lightning=={lightning_version}"]
        )
        parser = self.parser_class(**kwargs)
        help = f"A configuration file, or the name of one of {config_files.FOLDER.name}/."
        parser.add_argument("-c", "--config", action=config_files.ConfigFile, help=help)
        return parser

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        # Keys of their own, so that a configuration with other trainer.callbacks keeps them. Not
        # `add_lightning_class_args`, which gives them to the trainer: see `instantiate_trainer`.
        if self.first_argument not in ("-h", "--help"):
            parser.add_class_arguments(BestCheckpoint, "best_checkpoint")
            parser.add_class_arguments(LastCheckpoint, "last_checkpoint")
            parser.add_class_arguments(TensorBoardViews, "tensorboard")
            parser.add_class_arguments(PredictionWriter, "predictions")
            parser.set_defaults(config_files.defaults())

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse; then again, over what the checkpoint says of its model, if it says something."""
        if classes := hints.listing(sys.argv if args is None else list(args)):
            print(classes)
            sys.exit()
        super().parse_arguments(parser, args)
        config_files.expand_paths(self.config)
        command = self.config.subcommand
        config = self.config[command]
        self.start = choose(config.ckpt_path, command, config.trainer)
        if self.start.settings:
            self._parser(command).set_defaults(self.start.settings)
            super().parse_arguments(parser, args)
            config_files.expand_paths(self.config)
        # Withheld from Lightning, with which what a checkpoint stores wins over the user's flags.
        self.config[command].ckpt_path = None

    def before_instantiate_classes(self) -> None:
        config = self.config[self.subcommand]
        config.ckpt_path = self.start.path
        if config.weights_only is None:
            config.weights_only = True  # also of files from the network, which Lightning trusts
        #: What is saved beside the logs makes the run from its beginning.
        self.to_save = config.clone()
        if self.start.run:
            self.to_save.ckpt_path = None
        self.start.share_folder(config.trainer)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        config = self.config_init[self.subcommand]
        self.config[self.subcommand] = self.to_save  # by `SaveConfig`
        self.report = Report()
        user = config.trainer.callbacks or []
        user = user if isinstance(user, list) else [user]
        callbacks = [*user, config.tensorboard, config.predictions, self.report]
        off = config.trainer.barebones or config.trainer.fast_dev_run
        if config.trainer.enable_checkpointing is not False and not off:
            # The first: what a callback before it logged at the start of a step would be logged
            # again after a resume.
            callbacks = [config.last_checkpoint, *callbacks, config.best_checkpoint]
        if config.trainer.logger and not any(isinstance(c, LearningRateMonitor) for c in user):
            # Where its value can change: by default Lightning's logs a constant one in both ways.
            callbacks.append(LearningRateMonitor(self.model.lr_scheduler_interval))
        bar, own = config.trainer.enable_progress_bar, any(isinstance(c, ProgressBar) for c in user)
        if bar is None:
            bar = (own or sys.stdout.isatty()) and not config.trainer.barebones
        if bar and not own:
            callbacks.append(TrainingBar())
        kwargs |= {"callbacks": callbacks, "enable_progress_bar": bar}
        try:
            return super().instantiate_trainer(**kwargs)
        except (MisconfigurationException, TypeError, ValueError) as error:
            flags = ("accelerator", "devices", "strategy", "precision")
            given = ", ".join(f"--trainer.{flag} {config.trainer[flag]}" for flag in flags)
            raise UserError(f"{error} ({given})") from error

    def _before_run(self) -> None:
        if self.subcommand != "fit":  # they write beside the run that made the checkpoint
            warnings.filterwarnings("ignore", "The dirpath has changed")
        preflight.check(self.trainer, self.model, self.datamodule, self.subcommand)
        self.start.check(self.model)
        if str(self.start.path).endswith(SAFETENSORS) and self.start.content:
            self.model.load_state_dict(self.start.content["state_dict"])
            self.config_init[self.subcommand].ckpt_path = None  # not one of Lightning's

    before_fit = before_validate = before_test = before_predict = _before_run

    def fit(self, **kwargs: Any) -> None:
        warnings.filterwarnings("ignore", ".* directory .* exists and is not empty")
        with self.start.run_folder(self.trainer, self.datamodule):
            self.trainer.fit(**kwargs)
        if self.trainer.is_global_zero:
            print(*self.report.summary(self.trainer), sep="\n", flush=True)
