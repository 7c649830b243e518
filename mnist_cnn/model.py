"""The LightningModule: what a step computes, what is measured, what optimises.

Letters of the shapes: B images in this rank's share of a batch.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn

from mnist_cnn.errors import UserError
from mnist_cnn.nets import MAX_SHIFTS, describe, load_kernels, logits_over_shifts, make_net
from mnist_cnn.training.adadelta import Adadelta
from mnist_cnn.training.augment import Augmentation
from mnist_cnn.training.exact import ExactGradient
from mnist_cnn.training.global_batches import Batch, as_images
from mnist_cnn.training.metrics import EpochMetrics
from mnist_cnn.training.optimizers import NotCopied, configure
from mnist_cnn.training.randomness import dropout_layers, global_seed
from mnist_cnn.training.step import Step, cross_entropy, training_losses
from mnist_cnn.training.trainer_state import gather, is_within_epoch
from mnist_cnn.training.whole_steps import Choice, WholeSteps


def keras_adadelta(weights: Any) -> Adadelta:
    """Make the published run's optimizer."""
    return Adadelta(weights, lr=1.0, rho=0.95, eps=1e-7)


class MNISTClassifier(LightningModule):
    """Trains a net that maps images of digits to logits, as the published Keras run did.

    Args:
        net: Takes float images in [0, 1] of shape (B, 1, 28, 28) and returns logits (B, 10). Or its
            description, as in a checkpoint (see `mnist_cnn.nets.describe`).
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
        record_step: Whether each training step is recorded as one program and replayed: "auto" on
            a GPU, where nothing is against it. True: where something is, it is an error, and on a
            CPU the program is called, without being recorded.
        compile: What ``torch.compile`` compiles, which takes seconds: "auto" a step that is
            recorded on a GPU; True the net as well, on any device. A CPU is slower with it.
    """

    def __init__(
        self,
        net: nn.Module,
        optimizer: OptimizerCallable = keras_adadelta,
        lr_scheduler: LRSchedulerCallable | None = None,
        lr_scheduler_interval: Literal["epoch", "step"] = "epoch",
        augment: Augmentation | None = None,
        augment_epochs: int | None = None,
        label_smoothing: float = 0.0,
        test_shifts: int = 0,
        record_step: Choice = "auto",
        compile: Choice = "auto",
    ) -> None:
        super().__init__()
        if not 0 <= label_smoothing < 1:
            raise UserError(f"--model.label_smoothing {label_smoothing}: must be in [0, 1)")
        if augment_epochs is not None and augment_epochs < 0:
            raise UserError(f"--model.augment_epochs {augment_epochs}: must be at least 0")
        if not 0 <= test_shifts <= MAX_SHIFTS:
            raise UserError(f"--model.test_shifts {test_shifts}: must be from 0 to {MAX_SHIFTS}")
        self.net: nn.Module = make_net(net) if isinstance(net, dict) else net
        self.optimizer = NotCopied(optimizer)
        self.lr_scheduler = NotCopied(lr_scheduler) if lr_scheduler else None
        self.lr_scheduler_interval = lr_scheduler_interval
        self.lr: float | None = None  # what a Tuner finds, in place of the optimizer's own
        self.augment = augment
        self.augment_epochs = math.inf if augment_epochs is None else augment_epochs
        self.label_smoothing = label_smoothing
        self.test_shifts = test_shifts
        self.record_step = record_step
        self.whole_steps = WholeSteps()
        self.compile_net = compile
        # Plain numbers and strings only, so that checkpoints load as weights only.
        self.save_hyperparameters({"net": describe(self.net), "test_shifts": test_shifts})
        self.example_input_array = torch.zeros(1, 28, 28, dtype=torch.uint8)
        self.train_metrics = EpochMetrics("train/")
        self.val_metrics = EpochMetrics("val/")
        self.test_metrics = EpochMetrics("test/")
        self.exact_gradient: ExactGradient | None = None  # of a batch in chunks

    def configure_model(self) -> None:
        if self.compile_net is True and not self.net._compiled_call_impl:
            self.net.compile()  # in place: the names of the weights stay

    def configure_optimizers(self) -> Any:
        return configure(
            self.parameters(),
            self.optimizer,
            self.lr_scheduler,
            interval=self.lr_scheduler_interval,
            trainer=self._trainer,
            lr=self.lr,
        )

    def forward(self, images: Tensor) -> Tensor:
        """Compute logits.

        Args:
            images: (B, 28, 28) or (B, 1, 28, 28), uint8, or floats in [0, 1]; ink bright on dark.

        Returns:
            (B, 10).

        Raises:
            UserError: If they are something else.
        """
        # Activations follow their input's format; a CPU convolves fastest in this one.
        x = as_images(images).unsqueeze(1).to(self.dtype, memory_format=torch.channels_last)
        if images.dtype == torch.uint8:
            x = x / 255
        # A compiled net cannot be traced, for TensorBoard's graph say.
        net = self.net.forward if torch.jit.is_tracing() else self.net
        return logits_over_shifts(net, x, 0 if self.training else self.test_shifts)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        batch = Batch.of(batch, self.trainer)
        step = Step(global_seed(), self.current_epoch, batch_idx)
        augment = self.augment if self.current_epoch < self.augment_epochs else None
        settings: Any = {"augment": augment, "label_smoothing": self.label_smoothing}

        def loss_of(part: Batch) -> Tensor:
            """What a part adds to the mean loss over the global batch; counts it as well."""
            keys = step.keys(len(dropout_layers(self)), part.images.device)
            at = part.images, part.labels, keys, part.first_row
            losses, logits = training_losses(self, *at, **settings)
            self.train_metrics.count(losses, logits, part.labels)
            return losses.sum() / part.global_size

        self.exact_gradient = exact = ExactGradient(self.net) if batch.chunks else None
        loss = self.whole_steps.take(batch, step, **settings)
        if loss is None:
            loss = exact.loss(batch, loss_of) if exact else loss_of(batch)
        # DDP averages gradients over the ranks; times their number it is their sum.
        return loss * self.trainer.world_size if self.trainer.world_size > 1 else loss

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        if self.exact_gradient:
            self.exact_gradient.write(self.trainer.accumulate_grad_batches)
        elif not self.whole_steps.taken:
            super().backward(loss, *args, **kwargs)

    def optimizer_step(
        self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None
    ) -> None:
        if not self.whole_steps.on:
            super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
            return
        loss = optimizer_closure()  # `training_step` within it decides who takes the step
        if not self.whole_steps.taken:
            super().optimizer_step(epoch, batch_idx, optimizer, lambda: loss)

    def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: Any) -> None:
        if not self.whole_steps.taken:  # a whole step overwrites the gradients itself
            super().optimizer_zero_grad(epoch, batch_idx, optimizer)

    def validation_step(self, batch: Any) -> Tensor:
        return self._evaluate(batch, self.val_metrics)

    def test_step(self, batch: Any) -> Tensor:
        return self._evaluate(batch, self.test_metrics)

    def predict_step(self, batch: Any) -> Tensor:  # (B, 10) probabilities
        images = batch if isinstance(batch, Tensor) else batch[0]
        return self(images).float().softmax(dim=1)

    def _evaluate(self, batch: Any, metrics: EpochMetrics) -> Tensor:
        batch = Batch.of(batch, self.trainer)
        logits = self(batch.images)
        metrics.count(cross_entropy(logits, batch.labels), logits, batch.labels)
        return logits

    # Logged once an epoch, where it begins: Lightning computes a metric when the epoch ends. To log
    # it with each step, as is usual, would cost 2 ms, 3 % of a step on two cores.
    def on_train_epoch_start(self) -> None:
        self.log_dict(self.train_metrics)

    def on_validation_epoch_start(self) -> None:
        self.val_metrics.reset()  # what Lightning's `validate` left, `fit` may not write to
        self.log_dict(self.val_metrics)

    def on_test_epoch_start(self) -> None:
        self.test_metrics.reset()
        self.log_dict(self.test_metrics)

    def on_fit_start(self) -> None:
        if self.device.type == "cpu":
            with self.trainer.precision_plugin.forward_context():
                load_kernels(self.net)  # here, so that the first epoch's time is without it

    def on_train_start(self) -> None:
        self.whole_steps.begin(self, self.train_metrics, self.record_step, self.compile_net)
        if is_within_epoch(self.trainer):  # resumed there: the epoch's start is past
            self.log_dict(self.train_metrics)
        # Let the configuration win over the optimizer settings that a checkpoint stores. With a
        # schedule the checkpoint's are kept: they say how far it has come.
        if self.lr_scheduler is None and self.trainer.ckpt_path:
            for optimizer in self.trainer.optimizers:
                for group in optimizer.param_groups:
                    group.update(optimizer.defaults)

    def on_fit_end(self) -> None:
        self.whole_steps.end()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what the ranks have counted of the epoch so far."""
        if self._trainer and is_within_epoch(self._trainer):
            checkpoint["train_metrics"] = gather(self._trainer, self.train_metrics.counts())

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Share out what the ranks had counted among as many as there are now."""
        rank, ranks = (t.global_rank, t.world_size) if (t := self._trainer) else (0, 1)
        for counts in checkpoint.get("train_metrics", [])[rank::ranks]:
            self.train_metrics.add_counts(counts)
