"""What TensorBoard shows of a run, beyond the metrics that the model logs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from itertools import chain
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor
from torch.utils.tensorboard.summary import hparams as hparams_summaries
from torch.utils.tensorboard.writer import SummaryWriter
from torchmetrics.classification import MulticlassConfusionMatrix

from mnist_cnn.data import MNISTDataModule
from mnist_cnn.model import MNISTClassifier
from mnist_cnn.reports.curves import CURVES, curves
from mnist_cnn.reports.drawings import DIGITS, captioned_images, confusion_picture
from mnist_cnn.training.global_batches import Batch, as_bytes
from mnist_cnn.training.metrics import NUM_CLASSES
from mnist_cnn.training.randomness import global_seed
from mnist_cnn.training.trainer_state import datamodule, gather

#: Where the bins of TensorBoard's histograms end.
MAX_DRAWN = 1e20


class TensorBoardViews(Callback):
    """Adds to TensorBoard what ``self.log`` does not: other axes, pictures, histograms, rates.

    - ``over_epochs/…`` and ``over_images/…``: the curves over epochs, and over training images
      seen, on which runs of any batch size compare;
    - ``train/images_per_second``, and the loss of every ``log_every_n_steps``-th step;
    - after each validation the confusion matrix and the most confidently wrong images;
    - each epoch a histogram of every weight tensor;
    - the run's settings beside its metrics, in the HPARAMS tab.

    Does nothing without a ``TensorBoardLogger``.

    Args:
        num_pictures: Most confidently wrong images to show; 0 shows none.
        histograms: Whether to write weight histograms.
    """

    def __init__(self, num_pictures: int = 24, histograms: bool = True) -> None:
        self.num_pictures = num_pictures
        self.histograms = histograms
        self.confusion = MulticlassConfusionMatrix(NUM_CLASSES, validate_args=False)
        self.wrong = _MostConfidentlyWrong(num_pictures)
        self.active = False  # whether there is a TensorBoard to write to, on rank 0
        self.images_seen = 0
        self.mark = (0.0, 0)  # time and images seen at the last rate

    def state_dict(self) -> dict[str, Any]:
        return {"images_seen": self.images_seen}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.images_seen = state_dict["images_seen"]

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        loggers = [logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]
        self.active = bool(loggers)
        for logger in loggers:
            logger.log_metrics = partial(_log_epoch_once, logger, {})  # type: ignore[method-assign]

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if writer := _writer(trainer):
            # Only the names of the metrics: TensorBoard takes their last values from the curves.
            experiment, start, self.end = hparams_summaries(
                _settings(trainer, pl_module), dict.fromkeys(CURVES, 0.0)
            )
            writer._get_file_writer().add_summary(experiment)
            writer._get_file_writer().add_summary(start)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if writer := _writer(trainer):
            writer._get_file_writer().add_summary(self.end)
            writer.flush()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.mark = (time.perf_counter(), self.images_seen)

    on_train_epoch_start = on_train_start

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        self.images_seen += Batch.of(batch, trainer).global_size
        interval = trainer.log_every_n_steps  # type: ignore[attr-defined]
        if not self.active or interval == 0 or (batch_idx + 1) % interval:
            return
        loss = trainer.strategy.reduce(outputs["loss"], reduce_op="mean")
        if writer := _writer(trainer):
            now, (then, seen_then) = time.perf_counter(), self.mark
            rate = (self.images_seen - seen_then) / (now - then)
            writer.add_scalar("train/images_per_second", rate, trainer.global_step)
            writer.add_scalar("over_images/train/loss_of_step", float(loss), self.images_seen)
            self.mark = (now, self.images_seen)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        figures = curves(trainer)  # on all ranks
        if writer := _writer(trainer):
            epoch = trainer.current_epoch + 1
            for tag, value in figures.items():
                writer.add_scalar(f"over_epochs/{tag}", value, epoch)
                writer.add_scalar(f"over_images/{tag}", value, self.images_seen)
            if self.histograms:
                for name, weight in pl_module.named_parameters():
                    values = weight.detach().double()
                    values = values[values.abs() < MAX_DRAWN]  # none that is NaN or infinite
                    if values.numel():
                        writer.add_histogram(name.replace(".", "/"), values, epoch)

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.confusion.to(pl_module.device).reset()
        self.wrong = _MostConfidentlyWrong(self.num_pictures)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if not self.active:
            return
        batch = Batch.of(batch, trainer)
        answers = outputs.argmax(dim=1)
        digits = answers < NUM_CLASSES  # a net may have more outputs
        self.confusion.update(answers[digits], batch.labels[digits])
        self.wrong.update(outputs, batch)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not self.active or trainer.sanity_checking:
            return
        counts = self.confusion.compute()  # of all ranks
        wrong = gather(trainer, self.wrong.found)
        if writer := _writer(trainer):
            stage, epoch = ("test" if trainer.testing else "val"), trainer.current_epoch + 1
            names = class_names(trainer)
            picture = confusion_picture(counts, names)
            writer.add_image(f"{stage}/confusion", picture, epoch, dataformats="HWC")
            picture = _MostConfidentlyWrong(self.num_pictures, list(chain(*wrong))).picture(names)
            if picture is not None:
                tag = f"{stage}/most_confidently_wrong"
                writer.add_image(tag, picture, epoch, dataformats="HWC")

    on_test_epoch_start = on_validation_epoch_start
    on_test_batch_end = on_validation_batch_end
    on_test_epoch_end = on_validation_epoch_end


class _MostConfidentlyWrong:
    """The images that a net got wrong while giving its answer the highest probability."""

    def __init__(
        self, size: int, found: list[tuple[float, int, int, Tensor]] | None = None
    ) -> None:
        self.size = size
        self.found = self._first(found or [])  # (probability, label, answer, image)

    def _first(self, found: list[tuple[float, int, int, Tensor]]) -> list[Any]:
        return sorted(found, key=lambda item: -item[0])[: self.size]

    def update(self, logits: Tensor, batch: Batch) -> None:
        probabilities, answers = logits.float().softmax(dim=1).max(dim=1)
        rows = (answers != batch.labels).nonzero().flatten()
        new = zip(
            probabilities[rows].tolist(),
            batch.labels[rows].tolist(),
            answers[rows].tolist(),
            as_bytes(batch.images[rows]).cpu(),
            strict=True,
        )
        self.found = self._first([*self.found, *new])

    def picture(self, names: Sequence[str] = DIGITS) -> Any:
        if not self.found:
            return None
        captions = [
            f"{names[label]} as {names[answer]}: {p:.3f}" for p, label, answer, _ in self.found
        ]
        return captioned_images(torch.stack([image for *_, image in self.found]), captions)


def class_names(trainer: Trainer) -> Sequence[str]:
    """What the labels of the trainer's data stand for."""
    data = datamodule(trainer)
    return data.class_names if isinstance(data, MNISTDataModule) else DIGITS


def _log_epoch_once(
    logger: TensorBoardLogger,
    last: dict[str, int | None],
    metrics: dict[str, Any],
    step: int | None = None,
) -> None:
    """Log metrics, with the epoch once a step: Lightning adds it to those of either part."""
    if "epoch" in metrics and last.get("step") == step:
        metrics = {name: value for name, value in metrics.items() if name != "epoch"}
    elif "epoch" in metrics:
        last["step"] = step
    type(logger).log_metrics(logger, metrics, step)


def _writer(trainer: Trainer) -> SummaryWriter | None:
    """TensorBoard's writer, on the one rank that has it."""
    for logger in trainer.loggers if trainer.is_global_zero else []:
        if isinstance(logger, TensorBoardLogger):
            return logger.experiment
    return None


def _settings(trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
    """What distinguishes the run, as flat names and plain values."""
    settings: dict[str, Any] = {
        "seed": global_seed(),
        "max_epochs": trainer.max_epochs,
        "devices": trainer.world_size,
        "precision": trainer.precision,
    }
    data = datamodule(trainer)
    if data is not None:
        settings |= {name: v for name, v in data.hparams.items() if not name.startswith("_")}
    for optimizer in trainer.optimizers:
        settings["optimizer"] = type(optimizer).__name__
        settings |= {f"optimizer/{name}": value for name, value in optimizer.defaults.items()}
    if isinstance(pl_module, MNISTClassifier):
        net = pl_module.hparams["net"]
        settings["net"] = net["class_path"].rpartition(".")[2]
        settings |= {f"net/{name}": value for name, value in net["init_args"].items()}
        settings["label_smoothing"] = pl_module.label_smoothing
        settings["test_shifts"] = pl_module.test_shifts
        if pl_module.augment:
            settings["augment"] = type(pl_module.augment).__name__
            settings["augment_epochs"] = pl_module.augment_epochs
            settings |= {f"augment/{name}": v for name, v in pl_module.augment.hparams.items()}
    plain = (bool, int, float, str)
    return {name: v if isinstance(v, plain) else str(v) for name, v in settings.items()}
