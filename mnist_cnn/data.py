"""MNIST as one uint8 tensor, fetched in whole global batches of which each device takes its share.

Letters of the shapes: N images of a data set.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor
from torch.utils.data import DataLoader

from mnist_cnn.data_sets import DATASETS, Dataset, class_names, read_images
from mnist_cnn.data_sets.files import prepare_mnist
from mnist_cnn.errors import UserError
from mnist_cnn.file_system.paths import user_path
from mnist_cnn.training.global_batches import (
    Batch,
    GlobalBatchSampler,
    LabelledImages,
    SequentialGlobalBatches,
)
from mnist_cnn.training.randomness import global_seed
from mnist_cnn.training.trainer_state import batches_done


class MNISTDataModule(LightningDataModule):
    """MNIST from torchvision: 60,000 training and 10,000 test images of 28×28 grey bytes.

    With ``val_size=0``, as in the published Keras run, training takes all 60,000 images and the
    validation images are the test images. With ``val_size=10000`` that many are held out of the
    training images for validation, so that only ``test`` and ``predict`` see the test images.

    Args:
        data_dir: Folder of the data set; MNIST's files are put under ``data_dir/MNIST/raw``.
        batch_size: Images a training step sees on all devices together; each takes its share.
        val_size: Training images held out for validation, the same number of each digit up to
            rounding, the same ones in every run whatever the seed. 0 validates on the test images.
        eval_batch_size: Images a validation, test or prediction step sees on all devices together.
            It changes no figure; by default 128 on a CPU, and 2,500 on a GPU.
        chunks: If not 0, the gradient of a batch is computed in that many chunks and summed in
            fixed point, so that any number of devices that divides it trains the same model to the
            bit; without, up to rounding. Each device computes in one thread then. Not for nets
            with batch normalisation. Costs time: see ``docs/devices.md``.
        predict_path: Gone: ``mnist-cnn predict PICTURES`` reads pictures.
        dataset: MNIST, or one brought into its form: FashionMNIST (clothes), KMNIST (Japanese
            letters), QMNIST (MNIST with 60,000 test images), EMNISTDigits (280,000 digits),
            EMNISTMNIST (70,000 of these), USPS (9,298 digits from envelopes, enlarged). Each has a
            folder of its own in `data_dir`.
        extra: More images to train on, such as digits of your own: an ``.npz`` file with arrays
            ``images``, (N, 28, 28) uint8, bright on dark, and ``labels``, (N,) from 0 to 9.

    Raises:
        UserError: If an argument is out of its range, or unknown.
    """

    def __init__(
        self,
        data_dir: str = "data",
        batch_size: int = 128,
        val_size: int = 0,
        eval_batch_size: int | None = None,
        chunks: int = 0,
        predict_path: str | list[str] | None = None,
        dataset: Dataset = "MNIST",
        extra: str | None = None,
    ) -> None:
        super().__init__()
        if predict_path is not None:
            raise UserError(
                f"predict_path {predict_path}: pictures are read by `mnist-cnn predict PICTURES`, "
                "in Python by mnist_cnn.digits.files.read_files"
            )
        if dataset not in DATASETS:
            raise UserError(f"--data.dataset {dataset}: must be one of {', '.join(DATASETS)}")
        if val_size < 0:
            raise UserError(f"--data.val_size {val_size}: must be at least 0")
        for name, size in (("batch_size", batch_size), ("eval_batch_size", eval_batch_size)):
            if size is not None and size < 1:
                raise UserError(f"--data.{name} {size}: must be at least 1")
        self.data_dir = user_path(data_dir)
        self.batch_size = batch_size
        self.val_size = val_size
        self._eval_batch_size = eval_batch_size
        self.chunks = chunks
        self.dataset = dataset
        self.extra = user_path(extra) if extra is not None else None
        self.class_names = class_names(dataset)
        self.save_hyperparameters()

    def __getattr__(self, name: str) -> Any:  # of what is not there
        before = ", before prepare_data() and setup()" if name.endswith("_set") else ""
        raise AttributeError(f"MNISTDataModule has no {name}{before}")

    @property
    def eval_batch_size(self) -> int:
        """As it was given, or what suits the device."""
        on_gpu = self.trainer and self.trainer.strategy.root_device.type == "cuda"
        return self._eval_batch_size or (2500 if on_gpu else 128)

    def prepare_data(self) -> None:
        """Fetch and verify the files (one process a machine; safe from several at once)."""
        rank_zero_info(prepare_mnist(self.data_dir, self.dataset))

    def setup(self, stage: str | None = None) -> None:
        """Read the files and split them, on every rank."""
        read = DATASETS[self.dataset].read
        self.train_set = train = LabelledImages(*read(self.data_dir, train=True))
        self.val_set = self.test_set = LabelledImages(*read(self.data_dir, train=False))
        if self.val_size:
            kept, held_out = stratified_split(train.labels, self.val_size)
            self.train_set, self.val_set = (LabelledImages(*train[at]) for at in (kept, held_out))
        if self.extra is not None:
            self.train_set = self.train_set.joined(*read_images(self.extra))

    def train_dataloader(self) -> DataLoader[Batch]:
        return self._loader(self.train_set, self.batch_size, shuffle=True)

    def val_dataloader(self) -> DataLoader[Batch]:
        return self._loader(self.val_set, self.eval_batch_size)

    def test_dataloader(self) -> DataLoader[Batch]:
        return self._loader(self.test_set, self.eval_batch_size)

    def predict_dataloader(self) -> DataLoader[Batch]:
        return self.test_dataloader()

    def _loader(
        self, dataset: LabelledImages, batch_size: int, shuffle: bool = False
    ) -> DataLoader[Batch]:
        rank, ranks = 0, 1
        trainer: Any = self.trainer
        if trainer:
            rank, ranks = trainer.global_rank, trainer.world_size
            # Where the model is, once: 47 MB of images, instead of a copy each step.
            dataset = dataset.to(trainer.strategy.root_device)
        if not shuffle:  # no metric depends on it: rounded up to what the devices divide
            batch_size = -(-batch_size // ranks) * ranks
        in_order = not shuffle or (trainer and trainer.overfit_batches > 0)
        sampler = (SequentialGlobalBatches if in_order else GlobalBatchSampler)(
            dataset,
            batch_size,
            shuffle=not in_order,
            num_replicas=ranks,
            rank=rank,
            seed=global_seed(),
            chunks=self.chunks if shuffle else 0,
            batches_done=partial(batches_done, trainer) if shuffle and trainer else int,
        )
        # batch_size=None: the sampler's items are whole batches already, fetched by one indexing.
        return DataLoader(dataset, sampler=sampler, batch_size=None)


def stratified_split(labels: Tensor, val_size: int) -> tuple[Tensor, Tensor]:
    """Hold out `val_size` images with the digits in the proportion of the whole.

    Args:
        labels: (N,) int64.
        val_size: Number of images to hold out.

    Returns:
        Indices of the N - val_size images to train on and of the val_size held out, both ascending.
        They depend on the arguments alone.

    Raises:
        UserError: If nothing would be left to train on.
    """
    if val_size >= len(labels):
        raise UserError(f"--data.val_size {val_size}: there are {len(labels)} training images")
    shuffled = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    by_digit = shuffled[labels[shuffled].sort(stable=True).indices]
    # Evenly spaced places in an order sorted by digit take each digit in its proportion.
    places = torch.arange(val_size) * len(labels) // val_size
    held_out = torch.zeros(len(labels), dtype=torch.bool)
    held_out[by_digit[places]] = True
    return (~held_out).nonzero().flatten(), held_out.nonzero().flatten()
