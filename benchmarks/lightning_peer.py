"""The Keras run carried over to Lightning line by line, as most such ports are written.

    python -m benchmarks.lightning_peer --seed 1 --data data

That is: a data module of torchvision's transforms image by image and DataLoaders, contiguous
tensors, ``nn.Dropout``, ``self.log`` in every step, torchmetrics, a TensorBoard logger, the
Trainer's own checkpoints. Nothing of this project. Prints a JSON line: seconds of the training
(train_s) and with the validation (s), loss, val_accuracy.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from time import perf_counter
from typing import Any

import lightning as L
import torch
import torch.nn.functional as F
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchmetrics.classification import MulticlassAccuracy
from torchvision import datasets, transforms

Images = tuple[Tensor, Tensor]  # (B, 1, 28, 28), and labels (B,)


class MNISTData(L.LightningDataModule):
    """MNIST, image by image."""

    def __init__(self, data_dir: str, batch_size: int = 128, workers: int = 0) -> None:
        super().__init__()
        self.data_dir, self.batch_size = data_dir, batch_size
        self.workers: Any = {"num_workers": workers, "persistent_workers": workers > 0}

    def setup(self, stage: str) -> None:
        transform = transforms.ToTensor()
        self.train_set = datasets.MNIST(self.data_dir, train=True, transform=transform)
        self.val_set = datasets.MNIST(self.data_dir, train=False, transform=transform)

    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self.train_set, batch_size=self.batch_size, shuffle=True, **self.workers)

    def val_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self.val_set, batch_size=self.batch_size, **self.workers)


class Classifier(L.LightningModule):
    """The classic net, its loss and its optimizer."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            *(nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.ReLU()),
            *(nn.MaxPool2d(2), nn.Dropout(0.25), nn.Flatten()),
            *(nn.Linear(64 * 12 * 12, 128), nn.ReLU(), nn.Dropout(0.5), nn.Linear(128, 10)),
        )
        self.train_accuracy = MulticlassAccuracy(10, average="micro")
        self.val_accuracy = MulticlassAccuracy(10, average="micro")

    def training_step(self, batch: Images, batch_idx: int) -> Tensor:
        x, y = batch
        logits = self.net(x)
        loss = F.cross_entropy(logits, y)
        self.train_accuracy(logits, y)
        self.log("loss", loss, on_step=True, on_epoch=True)
        self.log("accuracy", self.train_accuracy, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch: Images, batch_idx: int) -> None:
        x, y = batch
        logits = self.net(x)
        self.val_accuracy(logits, y)
        self.log("val_loss", F.cross_entropy(logits, y))
        self.log("val_accuracy", self.val_accuracy)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adadelta(self.parameters(), lr=1.0, rho=0.95, eps=1e-7)


class Seconds(L.Callback):
    """Times the epoch, and the training in it."""

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.start = perf_counter()

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not trainer.sanity_checking:
            self.train_s = perf_counter() - self.start

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.s = perf_counter() - self.start


def main() -> None:
    """Train an epoch, validate, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--steps", type=int, help="of training, and of validation")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--accelerator", default="cpu")
    parser.add_argument("--workers", type=int, default=0, help="processes that load images")
    parser.add_argument("--data", default="data", help="torchvision's folder of MNIST")
    args = parser.parse_args()
    L.seed_everything(args.seed)
    seconds = Seconds()
    with tempfile.TemporaryDirectory() as logs:
        trainer = L.Trainer(
            max_epochs=args.epochs,
            accelerator=args.accelerator,
            logger=TensorBoardLogger(logs),
            callbacks=[seconds],
            limit_train_batches=args.steps,
            limit_val_batches=args.steps,
            enable_progress_bar=False,  # this project shows none where there is no terminal
        )
        trainer.fit(Classifier(), MNISTData(args.data, workers=args.workers))
    loss, accuracy = (float(trainer.callback_metrics[n]) for n in ("loss_epoch", "val_accuracy"))
    row = {"train_s": seconds.train_s, "s": seconds.s, "loss": loss, "val_accuracy": accuracy}
    print(json.dumps(row))


if __name__ == "__main__":
    main()
