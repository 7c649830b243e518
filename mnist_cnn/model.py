"""The LightningModule: what a step computes, what is measured, what optimises.

Letters of the shapes: B images in this rank's share of a batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import torch
import torch.nn.functional as F
from lightning.fabric.utilities import move_data_to_device
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torchmetrics import MeanMetric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy

from mnist_cnn.kernels.conv_max_pool import load as load_loops
from mnist_cnn.nets import ConvMaxPool, describe, logits_over_shifts
from mnist_cnn.training.adadelta import Adadelta
from mnist_cnn.training.augment import Augmentation
from mnist_cnn.training.exact import ExactSum
from mnist_cnn.training.global_batches import Batch
from mnist_cnn.training.randomness import global_seed, keyed_dropout
from mnist_cnn.training.runs import datamodule, gather, warn

NUM_CLASSES = 10


class MNISTClassifier(LightningModule):
    """Trains a net that maps images of digits to logits, as the published Keras run did.

    Args:
        net: Takes float images in [0, 1] of shape (B, 1, 28, 28) and returns logits (B, 10).
        optimizer: Makes the optimizer from the net's parameters. The default is Keras's Adadelta.
        lr_scheduler: Makes the learning rate schedule from the optimizer; none by default.
        lr_scheduler_interval: Whether the schedule advances every epoch or every step.
        augment: Changes the training images; not at all by default.
        augment_epochs: For how many epochs it does, after which the images stay as they are; by
            default for all.
        label_smoothing: In training, the share of the label that is spread over all classes.
        test_shifts: In evaluation and prediction, average the probabilities of an image and of the
            same moved by that many pixels down, up, right and left: five times the work. 0: of the
            image alone.
        compile: Whether ``torch.compile`` makes one program of the net. For GPUs: it needs a
            minute, and on a CPU it is slower than the net as it is.
    """

    def __init__(
        self,
        net: nn.Module,
        optimizer: OptimizerCallable = lambda params: Adadelta(params, lr=1.0, rho=0.95, eps=1e-7),
        lr_scheduler: LRSchedulerCallable | None = None,
        lr_scheduler_interval: Literal["epoch", "step"] = "epoch",
        augment: Augmentation | None = None,
        augment_epochs: int | None = None,
        label_smoothing: float = 0.0,
        test_shifts: int = 0,
        compile: bool = False,
    ) -> None:
        super().__init__()
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"--model.label_smoothing {label_smoothing}: must be in [0, 1)")
        if augment_epochs is not None and augment_epochs < 0:
            raise ValueError(f"--model.augment_epochs {augment_epochs}: must be at least 0")
        if not 0 <= test_shifts <= 14:
            raise ValueError(f"--model.test_shifts {test_shifts}: must be from 0 to 14 pixels")
        # A net keeps its function in any memory format; a CPU convolves fastest in this one.
        self.net: nn.Module = net.to(memory_format=torch.channels_last)
        self.optimizer = Shared(optimizer)
        self.lr_scheduler = Shared(lr_scheduler) if lr_scheduler else None
        self.lr_scheduler_interval = lr_scheduler_interval
        self.augment = augment
        self.augment_epochs = math.inf if augment_epochs is None else augment_epochs
        self.label_smoothing = label_smoothing
        self.test_shifts = test_shifts
        self.compile_net = compile
        self.exact_sum: ExactSum | None = None
        # Plain numbers and strings only, so that checkpoints load as weights only.
        self.save_hyperparameters({"net": describe(net), "test_shifts": test_shifts})
        self.example_input_array = torch.zeros(1, 28, 28, dtype=torch.uint8)
        self.train_metrics = _metrics("train/")
        self.val_metrics = _metrics("val/")
        self.test_metrics = _metrics("test/")

    def configure_model(self) -> None:
        if self.compile_net:
            self.net.compile()  # in place: the names of the weights stay
            self.compile_net = False

    def forward(self, images: Tensor) -> Tensor:  # (B, 28, 28) uint8 → (B, 10) logits
        x = images.unsqueeze(1).to(self.dtype, memory_format=torch.channels_last)
        return logits_over_shifts(self.net, x / 255, 0 if self.training else self.test_shifts)

    # Logged once an epoch, where it begins: Lightning computes a metric when the epoch ends. To log
    # it with each step, as is usual, would cost 2 ms, 3 % of a step on two cores.
    def on_train_epoch_start(self) -> None:
        self.log_dict(self.train_metrics)

    def on_validation_epoch_start(self) -> None:
        self.log_dict(self.val_metrics)

    def on_test_epoch_start(self) -> None:
        self.log_dict(self.test_metrics)

    def on_fit_start(self) -> None:
        if self.device.type == "cpu" and any(isinstance(m, ConvMaxPool) for m in self.modules()):
            with self.trainer.precision_plugin.forward_context():
                load_loops()  # here, not in the first step: that is a part of the epoch's time

    def on_train_start(self) -> None:
        if getattr(datamodule(self.trainer), "chunks", 0):
            torch.set_num_threads(1)  # a product's sums depend on how many share it
        if self._within_epoch():  # resumed there: the epoch's start is past
            self.log_dict(self.train_metrics)
        # Let the configuration win over the optimizer settings that a checkpoint stores. With a
        # schedule the checkpoint's are kept: they say how far it has come.
        if self.lr_scheduler is None:
            for optimizer in self.trainer.optimizers:
                for group in optimizer.param_groups:
                    group.update(optimizer.defaults)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what the ranks have counted of the epoch so far."""
        if self._within_epoch():
            counts = {name: metric.metric_state for name, metric in self.train_metrics.items()}
            counts = move_data_to_device(counts, torch.device("cpu"))
            checkpoint["train_metrics"] = gather(self.trainer, counts)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Share out what the ranks had counted, as many as there were, to those there are now."""
        by_rank = checkpoint.get("train_metrics", [])
        trainer = self._trainer
        rank, world_size = (trainer.global_rank, trainer.world_size) if trainer else (0, 1)
        for counts in by_rank[rank::world_size]:
            for name, metric in self.train_metrics.items():
                metric.merge_state(counts[name])

    def _within_epoch(self) -> bool:
        if self._trainer is None:
            return False
        epochs: Any = self._trainer.fit_loop.epoch_progress.current
        return epochs.started > epochs.processed

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        step = (global_seed(), self.current_epoch, batch_idx)
        if self.augment and self.current_epoch < self.augment_epochs:
            with torch.autocast(self.device.type, enabled=False):  # not in bf16: it moves pixels
                images = self.augment(batch.images, *step, first_row=batch.first_row)
            batch = batch._replace(images=images)
        if batch.chunks:
            return self._step_in_chunks(batch, step)
        with keyed_dropout(self.net, *step, first_row=batch.first_row, device=self.device):
            _, losses = self._measure(batch, self.train_metrics)
        # Lightning averages gradients over the ranks, whose shares can differ by one image: so
        # this is the mean over the global batch, for every number of ranks.
        return losses.sum() * (self.trainer.world_size / batch.global_size)

    def _step_in_chunks(self, batch: Batch, step: tuple[int, ...]) -> Tensor:
        """The loss, as of `training_step`; the gradient, of all ranks, is left in `exact_sum`."""
        self.exact_sum, total, row = ExactSum(), torch.zeros((), device=self.device), 0
        for size in batch.chunks:
            images, labels = batch.images[row : row + size], batch.labels[row : row + size]
            chunk = batch._replace(images=images, labels=labels)
            first_row = batch.first_row + row
            with keyed_dropout(self.net, *step, first_row=first_row, device=self.device):
                _, losses = self._measure(chunk, self.train_metrics)
            loss = losses.sum() / batch.global_size
            # Not backward(): DistributedDataParallel would sum the gradients in its own way.
            self.exact_sum.add(torch.autograd.grad(loss, self._trained()))
            total, row = total + loss.detach(), row + size
        if self.trainer.world_size > 1:
            self.exact_sum.all_reduce()
        return total * self.trainer.world_size

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        if self.exact_sum is None:
            super().backward(loss, *args, **kwargs)
            return
        batches = self.trainer.accumulate_grad_batches
        for weight, total in zip(self._trained(), self.exact_sum.totals, strict=True):
            gradient = (total / batches).to(weight.dtype)
            weight.grad = gradient if weight.grad is None else weight.grad + gradient

    def _trained(self) -> list[nn.Parameter]:
        return [weight for weight in self.net.parameters() if weight.requires_grad]

    def validation_step(self, batch: Batch) -> Tensor:
        logits, _ = self._measure(batch, self.val_metrics)
        return logits

    def test_step(self, batch: Batch) -> Tensor:
        logits, _ = self._measure(batch, self.test_metrics)
        return logits

    def predict_step(self, batch: Batch) -> Tensor:  # (B, 10) probabilities
        return self(batch.images).float().softmax(dim=1)

    def _measure(self, batch: Batch, metrics: MetricCollection) -> tuple[Tensor, Tensor]:
        """Logits (B, 10) and losses (B,) of a batch, counted into `metrics` image by image."""
        logits = self(batch.images)
        smoothing = self.label_smoothing if self.training else 0.0
        losses = F.cross_entropy(
            logits.float(), batch.labels, reduction="none", label_smoothing=smoothing
        )
        metrics.update(value=losses.detach(), preds=logits.detach(), target=batch.labels)
        return logits, losses

    def configure_optimizers(self) -> Any:
        optimizer = self.optimizer(self.parameters())
        if self.lr_scheduler is None:
            return optimizer
        scheduler = self.lr_scheduler(optimizer)
        if self.lr_scheduler_interval == "step":
            check_total_steps(scheduler, self.trainer)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {
                "scheduler": scheduler,
                "interval": self.lr_scheduler_interval,
                "monitor": getattr(scheduler, "monitor", None),
            },
        }


def check_total_steps(scheduler: Any, trainer: Trainer) -> None:
    """See that a schedule of a number of steps is made for the run.

    Raises:
        ValueError: If the run has more steps, at which it would fail.
    """
    total, steps = getattr(scheduler, "total_steps", None), trainer.estimated_stepping_batches
    flag = f"--model.lr_scheduler.init_args.total_steps {total}"
    if total and steps > total:
        raise ValueError(f"{flag}: must be the steps of the run, {steps}")
    if total and steps < total:
        warn(f"{flag}: the run ends before the schedule does, after {steps} steps")


class Shared:
    """A function that copies of a model have in common.

    Callbacks that average weights copy the model, and the command line's functions, which hold
    parts of the parser, cannot be copied when there are several processes.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function

    def __call__(self, *arguments: Any) -> Any:
        return self.function(*arguments)

    def __deepcopy__(self, memo: dict[int, Any]) -> Shared:
        return self


def _metrics(prefix: str) -> MetricCollection:
    """Loss and accuracy over all images of an epoch, on all ranks."""
    return MetricCollection(
        {
            "loss": MeanMetric(nan_strategy="disable"),
            "accuracy": MulticlassAccuracy(NUM_CLASSES, average="micro", validate_args=False),
        },
        prefix=prefix,
        compute_groups=False,
    )
