"""What a training step computes of its batch: augmentation, forward pass, loss.

Written once, as a function of tensors over the weights. `MNISTClassifier.training_step` sums its
losses, and Lightning takes the gradient of that and steps the optimizer. What a step draws at
random follows from its keys (see `randomness`), and nothing in it waits for a GPU.

Letters of the shapes: B images in this rank's share of a batch.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mnist_cnn.training.augment import Augmentation
from mnist_cnn.training.global_batches import Batch, as_bytes
from mnist_cnn.training.randomness import keyed_dropout


class Step(NamedTuple):
    """Names a step: what is drawn at random in it is a function of these, and of nothing else."""

    seed: int
    epoch: int
    batch_idx: int


def augmented(batch: Batch, augment: Augmentation, step: Step) -> Batch:
    """The batch with its images changed, each in its own way; not in bf16, which moves pixels."""
    with torch.autocast(batch.images.device.type, enabled=False):
        return batch._replace(
            images=augment(as_bytes(batch.images), *step, first_row=batch.first_row)
        )


def training_losses(
    model: nn.Module, batch: Batch, step: Step, label_smoothing: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Run a batch through a model in training, with the dropout masks of this step.

    Args:
        model: From images (B, 28, 28) to logits (B, 10).
        batch: The share of this rank.
        step: Which step it is.
        label_smoothing: The share of the label that is spread over all classes.

    Returns:
        Losses (B,) and logits (B, 10).
    """
    with keyed_dropout(model, *step, first_row=batch.first_row, device=batch.images.device):
        logits = model(batch.images)
    return cross_entropy(logits, batch.labels, label_smoothing), logits


def cross_entropy(logits: Tensor, labels: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Losses (B,) of logits (B, 10) of any precision, in float32."""
    return F.cross_entropy(
        logits.float(), labels, reduction="none", label_smoothing=label_smoothing
    )
