"""What TensorBoard and the terminal show, and where predictions go."""

from __future__ import annotations

import csv
import time
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor
from torch.utils.tensorboard.summary import hparams as hparams_summaries
from torch.utils.tensorboard.writer import SummaryWriter
from torchmetrics.classification import MulticlassConfusionMatrix

from mnist_cnn.data import Batch, MNISTDataModule
from mnist_cnn.model import NUM_CLASSES, MNISTClassifier
from mnist_cnn.pictures import captioned_images, confusion_picture
from mnist_cnn.randomness import global_seed

CURVES = ("train/loss", "train/accuracy", "val/loss", "val/accuracy")


class Report(Callback):
    """Prints a run in the terms of the published one: a line an epoch, and a summary at the end.

    Without a progress bar (a log file, say) each epoch's line is printed when it ends, too. A
    resumed run shows the epochs before the interruption as well.
    """

    def __init__(self) -> None:
        self.history: list[dict[str, float]] = []  # one row an epoch; s: seconds with validation
        self.epochs_before = 0  # epochs that the checkpoint had behind it
        self.epoch_start = 0.0

    def state_dict(self) -> dict[str, Any]:
        return {"history": self.history}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.history = list(state_dict["history"])
        self.epochs_before = len(self.history)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.is_global_zero and trainer.progress_bar_callback is None:
            print(_sample_counts(trainer), HEADER, sep="\n", flush=True)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.epoch_start = time.perf_counter()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        row = {"epoch": trainer.current_epoch + 1.0, "s": time.perf_counter() - self.epoch_start}
        metrics = trainer.callback_metrics
        row |= {tag: float(metrics[tag]) for tag in CURVES if tag in metrics}
        self.history.append(row)
        if trainer.is_global_zero and trainer.progress_bar_callback is None:
            print(_line(row, trainer.max_epochs), flush=True)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.is_global_zero:
            print("\n".join(self._summary(trainer)), flush=True)

    def _summary(self, trainer: Trainer) -> list[str]:
        lines = ["", _sample_counts(trainer), HEADER]
        lines += [_line(row, trainer.max_epochs) for row in self.history]
        if len(self.history) == self.epochs_before:
            lines.append(
                f"Nothing was trained: the run had already reached epoch {self.epochs_before} of "
                f"--trainer.max_epochs {trainer.max_epochs}; raise it to train on."
            )
        validated = [row for row in self.history if "val/accuracy" in row]
        if validated:
            last, best = validated[-1], max(validated, key=lambda row: row["val/accuracy"])
            if _validates_on_test(trainer):
                lines.append(f"Test loss: {last['val/loss']:.4f}")
                lines.append(f"Test accuracy: {last['val/accuracy']:.4f}")
            lines.append(
                f"Best val_accuracy: {best['val/accuracy']:.4f} (epoch {best['epoch']:.0f})"
            )
        if folder := _log_dir(trainer):
            lines += ["", f"Logs:        {folder}"]
            checkpoint = getattr(trainer.checkpoint_callback, "last_model_path", "")
            if checkpoint:
                lines.append(f"Checkpoints: {Path(checkpoint).parent}")
                if not _validates_on_test(trainer):
                    lines.append(
                        f"Test it:     python -m mnist_cnn test --config {folder}/config.yaml"
                        f" --ckpt_path {checkpoint}"
                    )
            lines.append(f"Look at it:  tensorboard --logdir {folder.parent.parent}")
        return lines


HEADER = "  epoch       s    loss  accuracy  val_loss  val_accuracy"


def _line(row: dict[str, float], max_epochs: int | None) -> str:
    columns = zip(CURVES, (8, 10, 10, 14), strict=True)
    figures = "".join(
        f"{row[tag]:{width}.4f}" if tag in row else " " * (width - 1) + "-" for tag, width in columns
    )
    return f"{row['epoch']:4.0f}/{max_epochs:<3}{row['s']:7.1f}{figures}"


def _sample_counts(trainer: Trainer) -> str:
    data = _datamodule(trainer)
    if not isinstance(data, MNISTDataModule):
        return ""
    train, val = data.train_set.images, data.val_set.images
    which = "the test images" if data.val_set is data.test_set else "held out of training"
    share = data.batch_size // trainer.world_size
    return (
        f"Training images: {tuple(train.shape)}, validation images: {tuple(val.shape)}, {which}\n"
        f"Train on {len(train)} samples, validate on {len(val)} samples, in batches of "
        f"{data.batch_size} = {trainer.world_size} device(s) x {share}"
    )


def _validates_on_test(trainer: Trainer) -> bool:
    data = _datamodule(trainer)
    return isinstance(data, MNISTDataModule) and data.val_set is data.test_set


def _datamodule(trainer: Trainer) -> LightningDataModule | None:
    return trainer.datamodule  # type: ignore[attr-defined, no-any-return]  # set by fit


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
        self.images_seen = 0
        self.mark = (0.0, 0)  # time and images seen at the last rate

    def state_dict(self) -> dict[str, Any]:
        return {"images_seen": self.images_seen}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.images_seen = state_dict["images_seen"]

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

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.mark = (time.perf_counter(), self.images_seen)

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
    ) -> None:
        self.images_seen += batch.global_size
        if (batch_idx + 1) % trainer.log_every_n_steps:
            return
        loss = trainer.strategy.reduce(outputs["loss"], reduce_op="mean")
        if writer := _writer(trainer):
            now, (then, seen_then) = time.perf_counter(), self.mark
            rate = (self.images_seen - seen_then) / (now - then)
            writer.add_scalar("train/images_per_second", rate, trainer.global_step)
            writer.add_scalar("over_images/train/loss_of_step", float(loss), self.images_seen)
            self.mark = (now, self.images_seen)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if writer := _writer(trainer):
            epoch = trainer.current_epoch + 1
            for tag in CURVES:
                if tag in trainer.callback_metrics:
                    value = float(trainer.callback_metrics[tag])
                    writer.add_scalar(f"over_epochs/{tag}", value, epoch)
                    writer.add_scalar(f"over_images/{tag}", value, self.images_seen)
            if self.histograms:
                for name, weight in pl_module.named_parameters():
                    writer.add_histogram(name.replace(".", "/"), weight.detach().float(), epoch)

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.confusion.to(pl_module.device).reset()
        self.wrong = _MostConfidentlyWrong(self.num_pictures)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self.confusion.update(outputs, batch.labels)
        self.wrong.update(outputs, batch)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.sanity_checking:
            return
        counts = self.confusion.compute()  # of all ranks
        wrong = _gather(trainer, self.wrong.found)
        if writer := _writer(trainer):
            stage, epoch = ("test" if trainer.testing else "val"), trainer.current_epoch + 1
            picture = confusion_picture(counts)
            writer.add_image(f"{stage}/confusion", picture, epoch, dataformats="HWC")
            picture = _MostConfidentlyWrong(self.num_pictures, sum(wrong, [])).picture()
            if picture is not None:
                tag = f"{stage}/most_confidently_wrong"
                writer.add_image(tag, picture, epoch, dataformats="HWC")

    on_test_epoch_start = on_validation_epoch_start
    on_test_batch_end = on_validation_batch_end
    on_test_epoch_end = on_validation_epoch_end


class _MostConfidentlyWrong:
    """The images that a net got wrong while giving its answer the highest probability."""

    def __init__(self, size: int, found: list[tuple[float, int, int, Tensor]] | None = None) -> None:
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
            batch.images[rows].cpu(),
            strict=True,
        )
        self.found = self._first([*self.found, *new])

    def picture(self) -> Any:
        if not self.found:
            return None
        captions = [f"{label} as {answer}: {p:.3f}" for p, label, answer, _ in self.found]
        return captioned_images(torch.stack([image for *_, image in self.found]), captions)


class PredictionWriter(Callback):
    """Writes predictions as a CSV table: index, digit, confidence, and all ten probabilities.

    Args:
        path: Where to write; by default ``predictions.csv`` in the folder of the run's logs.
    """

    def __init__(self, path: str | None = None) -> None:
        self.path = path
        self.shares: list[Tensor] = []  # (B, 10) probabilities of each batch

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self.shares.append(outputs.cpu())

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        by_rank = _gather(trainer, self.shares)
        if not trainer.is_global_zero:
            return
        # The ranks' shares of a batch are consecutive rows of it.
        rows = torch.cat([share for batch in zip(*by_rank, strict=True) for share in batch])
        path = Path(self.path or (_log_dir(trainer) or Path()) / "predictions.csv")
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.tmp")
        with temporary.open("w", newline="") as file:
            table = csv.writer(file)
            table.writerow(["index", "digit", "confidence", *(f"p{i}" for i in range(rows.shape[1]))])
            for index, row in enumerate(rows):
                figures = (f"{p:.6f}" for p in row.tolist())
                table.writerow([index, int(row.argmax()), f"{float(row.max()):.6f}", *figures])
        temporary.replace(path)
        print(f"{len(rows)} predictions: {path}", flush=True)


def _log_dir(trainer: Trainer) -> Path | None:
    """The folder of the run's logs. ``Trainer.log_dir`` would have to be asked on all ranks."""
    return Path(trainer.loggers[0].log_dir) if trainer.loggers and trainer.loggers[0].log_dir else None


def _gather(trainer: Trainer, mine: Any) -> list[Any]:
    """The objects of all ranks, in the order of the ranks."""
    if trainer.world_size == 1:
        return [mine]
    everyone: list[Any] = [None] * trainer.world_size
    torch.distributed.all_gather_object(everyone, mine)
    return everyone


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
    data = _datamodule(trainer)
    if data is not None:
        settings |= data.hparams
    for optimizer in trainer.optimizers:
        settings["optimizer"] = type(optimizer).__name__
        settings |= {f"optimizer/{name}": value for name, value in optimizer.defaults.items()}
    if isinstance(pl_module, MNISTClassifier):
        net = pl_module.hparams["net"]
        settings["net"] = net["class_path"].rpartition(".")[2]
        settings |= {f"net/{name}": value for name, value in net["init_args"].items()}
    plain = (bool, int, float, str)
    return {name: v if isinstance(v, plain) else str(v) for name, v in settings.items()}
