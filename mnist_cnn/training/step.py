"""What a training step computes: augmentation, forward pass, loss, gradient, optimizer, counts.

Written once, as functions of tensors over the weights. `training_losses` is the way to the loss:
`MNISTClassifier.training_step` sums it, and Lightning takes the gradient and steps the optimizer.
`whole_step` is all of it in one, to be recorded as a program for a GPU (see `whole_steps`). What a
step draws at random follows from its keys (see `randomness`), and nothing in it waits for a GPU.

Letters of the shapes: B images in this rank's share of a batch, N in the data set.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, distributed, nn

from mnist_cnn.training.augment import Augmentation
from mnist_cnn.training.global_batches import as_bytes
from mnist_cnn.training.randomness import keyed_dropout, step_keys


class Step(NamedTuple):
    """Identifies a step: what is random in it is a function of these, and of nothing else."""

    seed: int
    epoch: int
    batch_idx: int

    def keys(self, layers: int, device: torch.device) -> Tensor:
        """Keys of the augmentation and of each dropout layer, (1 + layers,)."""
        return step_keys(*self, layers=layers, device=device)


def training_losses(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    keys: Tensor,
    first_row: int = 0,
    *,
    augment: Augmentation | None = None,
    label_smoothing: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """Run a share of a batch through a model in training.

    Args:
        model: From images (B, 28, 28) to logits (B, 10).
        images: (B, 28, 28).
        labels: (B,).
        keys: Of the step, (1 + layers,).
        first_row: The row of the global batch that is the first of the share.
        augment: Changes the images, each in its own way; without autocast, since rounding to bf16
            would displace pixels.
        label_smoothing: The share of the label that is spread over all classes.

    Returns:
        Losses (B,) and logits (B, 10).
    """
    if augment:
        with torch.autocast(images.device.type, enabled=False):
            images = augment(as_bytes(images), keys[0], first_row=first_row)
    with keyed_dropout(model, keys[1:], first_row=first_row):
        logits = model(images)
    return cross_entropy(logits, labels, label_smoothing), logits


def cross_entropy(logits: Tensor, labels: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Losses (B,) of logits (B, 10) of any precision, in float32."""
    return F.cross_entropy(
        logits.float(), labels, reduction="none", label_smoothing=label_smoothing
    )


def whole_step(
    losses_of: Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]],
    weights: list[nn.Parameter],
    step_optimizer: Callable[[], None],
    count: Callable[[Tensor, Tensor, Tensor], None],
    images: Tensor,
    labels: Tensor,
    indices: Tensor,
    keys: Tensor,
    *,
    global_size: int,
) -> Tensor:
    """Look the batch up, compute the loss, sum its gradient over the ranks, step, count.

    Args:
        losses_of: From images, labels and keys to what `training_losses` returns.
        weights: What the gradient is of.
        step_optimizer: Takes a step along the gradient that it finds at the weights.
        count: Counts losses, logits and labels.
        images: (N, 28, 28).
        labels: (N,).
        indices: (B,), into these.
        keys: Of the step.
        global_size: Images in the global batch, of which the loss is the mean.

    Returns:
        Scalar: what this share adds to the mean loss over the global batch.
    """
    images, labels = images[indices], labels[indices]
    losses, logits = losses_of(images, labels, keys)
    loss = losses.sum() / global_size
    with torch.no_grad(), torch.autocast(images.device.type, enabled=False):
        gradients = torch.autograd.grad(loss, weights)
        if distributed.is_initialized():
            flat = torch.cat([gradient.flatten() for gradient in gradients])
            distributed.all_reduce(flat)
            parts = flat.split([weight.numel() for weight in weights])
            gradients = tuple(p.view_as(w) for p, w in zip(parts, weights, strict=True))
        for weight, gradient in zip(weights, gradients, strict=True):
            # In the weight's order of memory, which fused optimizers take for granted.
            same = gradient.stride() == weight.stride()
            weight.grad = gradient if same else torch.empty_like(weight).copy_(gradient)
        step_optimizer()
        count(losses, logits, labels)
    return loss.detach()
