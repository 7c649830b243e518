"""The four figures of an epoch, by which runs are compared."""

from __future__ import annotations

from lightning.pytorch import Trainer

from mnist_cnn.training.trainer_state import has_validated

#: In the order of the published run's columns.
CURVES = ("train/loss", "train/accuracy", "val/loss", "val/accuracy")


def curves(trainer: Trainer) -> dict[str, float]:
    """The figures of the epoch that ends. To be called on all ranks, which compute them together.

    Without those of an earlier epoch's validation, which Lightning keeps until the next.
    """
    tags = [tag for tag in CURVES if has_validated(trainer) or not tag.startswith("val/")]
    metrics = trainer.callback_metrics
    return {tag: float(metrics[tag]) for tag in tags if tag in metrics}
