"""What a run was started with: saved in its folder, and the same where it goes on."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.cli import SaveConfigCallback

from mnist_cnn.checkpoints.files import CheckpointError
from mnist_cnn.file_system.whole import write_whole
from mnist_cnn.training.randomness import global_seed
from mnist_cnn.training.trainer_state import run_folder


class SaveConfig(SaveConfigCallback):
    """Saves the configuration in the run's folder, of which Lightning's may be a sub-folder."""

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if trainer.loggers or (stage == "fit" and trainer.checkpoint_callbacks):
            text = self.parser.dump(self.config, skip_none=False)
            write_whole(run_folder(trainer) / self.config_filename, text.encode())


def run_settings(trainer: Trainer, data: LightningDataModule | None) -> dict[str, Any]:
    """The settings, by their flags, on which depends what a numbered step sees."""
    hparams: dict[str, Any] = dict(data.hparams) if data else {}
    of_data = {f"data.{name}": hparams.get(name) for name in ("batch_size", "val_size", "dataset")}
    return {
        "seed_everything": global_seed(),
        "trainer.limit_train_batches": trainer.limit_train_batches,
        **of_data,
    }


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
