"""The Keras run carried over to Lightning line by line, as most such ports are written.

    python -m benchmarks.lightning_peer --seed 1 --data data

That is: torchvision's transforms image by image in DataLoaders, contiguous tensors, ``nn.Dropout``,
``self.log`` in every step, torchmetrics, a TensorBoard logger, the Trainer's own checkpoints.
Nothing of this project.
"""

from __future__ import annotations

import json
import tempfile
from time import perf_counter

import lightning as L
import torch
import torch.nn.functional as F
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor
from torchmetrics.classification import MulticlassAccuracy

from benchmarks import peers
from benchmarks.torch_peer import keras_net, loaders

Images = tuple[Tensor, Tensor]  # (B, 1, 28, 28), and labels (B,)


class Classifier(L.LightningModule):
    """The classic net, its loss and its optimizer."""

    def __init__(self) -> None:
        super().__init__()
        self.net = keras_net()
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


class Lines(L.Callback):
    """Times each epoch, and the training in it; prints an epoch's figures as a JSON line."""

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.start = perf_counter()

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not trainer.sanity_checking:
            self.train_s = perf_counter() - self.start

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        row = {"train_s": self.train_s, "s": perf_counter() - self.start}
        logged = {"loss": "loss_epoch", "val_accuracy": "val_accuracy"}
        row |= {name: float(trainer.callback_metrics[tag]) for name, tag in logged.items()}
        print(json.dumps({"epoch": trainer.current_epoch + 1, **row}), flush=True)


def main() -> None:
    """Train, validate, print."""
    parser = peers.options(__doc__)
    parser.add_argument("--workers", type=int, default=0, help="processes that load images")
    args = parser.parse_args()
    L.seed_everything(args.seed)
    with tempfile.TemporaryDirectory() as logs:
        trainer = L.Trainer(
            max_epochs=args.epochs,
            logger=TensorBoardLogger(logs),
            callbacks=[Lines()],
            limit_train_batches=args.steps,
            limit_val_batches=args.steps,
            enable_progress_bar=False,  # this project shows none where there is no terminal
        )
        batches = loaders(args, test_batch_size=peers.BATCH_SIZE, workers=args.workers)
        trainer.fit(Classifier(), *batches)


if __name__ == "__main__":
    main()
