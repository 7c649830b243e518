"""Lightning's loop counters mean what this project takes them for; another release may differ."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from mnist_cnn import KerasCNN, MNISTClassifier, MNISTDataModule
from mnist_cnn.checkpoints.files import epochs_trained
from mnist_cnn.training import trainer_state


class Seen(Callback):
    """Notes what `trainer_state` says at each of Lightning's hooks."""

    def __init__(self) -> None:
        self.facts: list[tuple[str, int, bool, bool]] = []

    def note(self, hook: str, trainer: Trainer) -> None:
        self.facts.append(
            (
                hook,
                trainer.fit_loop.epoch_loop.batch_progress.current.ready,
                trainer_state.is_within_epoch(trainer),
                trainer_state.has_validated(trainer),
            )
        )

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.note("start", trainer)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.note("epoch", trainer)

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        self.note("batch", trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.note("end", trainer)


def fit(mnist: MNISTDataModule, tmp_path: Path, **settings: Any) -> tuple[Trainer, Seen]:
    seen = Seen()
    trainer = Trainer(
        accelerator="cpu",
        devices=1,
        callbacks=[seen],
        limit_train_batches=2,
        limit_val_batches=1,
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
        **settings,
    )
    trainer.fit(MNISTClassifier(KerasCNN((4, 4), 8)), mnist)
    return trainer, seen


def test_the_counters_at_each_hook(mnist: MNISTDataModule, tmp_path: Path) -> None:
    _, seen = fit(mnist, tmp_path, max_epochs=2)
    assert seen.facts == [
        ("start", 0, False, False),
        ("epoch", 0, False, False),
        ("batch", 1, True, False),
        ("batch", 2, True, False),
        ("epoch", 2, False, True),
        ("batch", 1, True, False),
        ("batch", 2, True, False),
        ("end", 2, False, True),
    ]


def test_only_a_run_that_goes_on_has_batches_behind_it(
    mnist: MNISTDataModule, tmp_path: Path
) -> None:
    trainer, _ = fit(mnist, tmp_path, max_epochs=1)
    assert trainer_state.batches_done(trainer) == 0
    epochs: Any = trainer.fit_loop.epoch_progress.current
    epochs.processed = 0  # as a checkpoint within it says
    trainer.fit_loop.restarting = True
    assert trainer_state.batches_done(trainer) == 2


def test_a_checkpoint_has_the_counters_that_are_put_right_in_it(
    mnist: MNISTDataModule, tmp_path: Path
) -> None:
    trainer, _ = fit(mnist, tmp_path, max_epochs=2)
    trainer.save_checkpoint(tmp_path / "x.ckpt")
    checkpoint = torch.load(tmp_path / "x.ckpt", weights_only=True)
    assert epochs_trained(checkpoint) == 2
    assert epochs_trained({"state_dict": {}}) == 0
    loops = checkpoint["loops"]["fit_loop"]
    loops["epoch_progress"]["current"]["ready"] += 1  # announced
    batch = loops["epoch_loop.batch_progress"]
    batch["current"]["ready"], batch["current"]["started"] = 1, 0
    trainer_state.forget_unbegun(checkpoint, num_training_batches=2)
    assert loops["epoch_progress"]["current"]["ready"] == 2
    assert batch["current"]["ready"] == 0
    assert batch["is_last_batch"] is False


def test_an_epoch_that_a_checkpoint_ends_with_is_not_skipped_into(
    mnist: MNISTDataModule, tmp_path: Path
) -> None:
    trainer, _ = fit(mnist, tmp_path, max_epochs=1)
    loop = trainer.fit_loop.epoch_loop
    for ready, is_last, restarts in ((1, False, True), (2, True, False), (0, False, False)):
        loop.restarting = True
        loop.batch_progress.current.ready = ready
        loop.batch_progress.is_last_batch = is_last
        trainer_state.begin_epoch_afresh(trainer)
        assert loop.restarting is restarts


@pytest.mark.parametrize("loggers", [False, True])
def test_without_a_logger_the_root_folder_is_the_run_s(loggers: bool, tmp_path: Path) -> None:
    trainer = Trainer(logger=loggers, default_root_dir=tmp_path, accelerator="cpu")
    folder = trainer_state.run_folder(trainer)
    assert folder == (tmp_path / "lightning_logs" / "version_0" if loggers else tmp_path)
