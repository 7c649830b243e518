"""Whole global batches, of which each device takes its share.

Letters of the shapes: B images in this rank's share of a batch, H = W = 28.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any, NamedTuple

import torch
from lightning.pytorch import Trainer
from torch import Tensor
from torch.utils.data import Dataset, DistributedSampler, SequentialSampler

from mnist_cnn.errors import UserError
from mnist_cnn.training.randomness import stream_key

#: Of torch 2.7 on.
is_exporting: Callable[[], bool] = getattr(
    torch.compiler, "is_exporting", torch.compiler.is_compiling
)


class Batch:
    """A rank's share of a global batch, looked up in its data set when it is asked for.

    A pair: ``images, labels = batch`` unpacks it, ``batch[1]`` is the labels.

    Args:
        images: (N, 28, 28), ink bright on dark: uint8, or floats in [0, 1].
        labels: (N,) int64.
        first_row: The row of the global batch that is the first of this share.
        global_size: Images in the global batch, all ranks together.
        chunks: Images in each chunk of this share; see `exact`.
        indices: (B,) int64, which of the images are this share; None where all are.
    """

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        first_row: int,
        global_size: int,
        chunks: tuple[int, ...] = (),
        indices: Tensor | None = None,
    ) -> None:
        self.source = images, labels
        self.first_row = first_row
        self.global_size = global_size
        self.chunks = chunks
        self.indices = indices

    @cached_property
    def images(self) -> Tensor:  # (B, 28, 28)
        return self.source[0] if self.indices is None else self.source[0][self.indices]

    @cached_property
    def labels(self) -> Tensor:  # (B,)
        return self.source[1] if self.indices is None else self.source[1][self.indices]

    @property
    def size(self) -> int:
        """B."""
        return len(self.source[1] if self.indices is None else self.indices)

    def __iter__(self) -> Iterator[Tensor]:
        return iter((self.images, self.labels))

    def __getitem__(self, index: int) -> Tensor:
        return (self.images, self.labels)[index]

    def __len__(self) -> int:
        return 2

    def to(self, device: torch.device, **settings: Any) -> Batch:
        """The same on a device."""
        if self.source[0].device == device:
            return self
        images, labels = (tensor.to(device, **settings) for tensor in self)
        return Batch(images, labels, self.first_row, self.global_size, self.chunks)

    def split(self) -> Iterator[Batch]:
        """The chunks, each a share of its own."""
        row = 0
        for size in self.chunks:
            images, labels = self.images[row : row + size], self.labels[row : row + size]
            yield Batch(images, labels, self.first_row + row, self.global_size)
            row += size

    @classmethod
    def of(cls, batch: Any, trainer: Trainer) -> Batch:
        """What any loader gives as a batch.

        Args:
            batch: One already, or images, see `as_images`, and labels, (B,) integers.
            trainer: Of whose ranks each has as many images.

        Raises:
            UserError: If it is something else.
        """
        if isinstance(batch, cls):
            return batch
        pair = isinstance(batch, (list, tuple)) and len(batch) == 2
        if not pair or not all(isinstance(x, Tensor) for x in batch):
            raise UserError("a batch must be a pair of tensors, images and labels")
        images, labels = as_images(batch[0]), batch[1]
        size = len(images)
        if labels.shape != (size,) or labels.is_floating_point():
            raise UserError(
                f"labels must be integers of shape ({size},), one for each image, and are "
                f"{labels.dtype} of shape {tuple(labels.shape)}"
            )
        rank, ranks = trainer.global_rank, trainer.world_size
        return cls(images, labels.long(), rank * size, ranks * size)


def as_images(images: Tensor) -> Tensor:
    """Images as they are given, (B, 28, 28) or (B, 1, 28, 28), as (B, 28, 28).

    Raises:
        UserError: If they are neither bytes nor floats in [0, 1], of another shape, or no tensor.
    """
    if torch.jit.is_tracing() or is_exporting():  # which hold no comparisons
        return images.squeeze(1) if images.dim() == 4 else images
    if not isinstance(images, Tensor):
        raise UserError(f"images must be a tensor, and are {type(images).__name__}")
    shape = tuple(images.shape)
    if len(shape) == 4 and shape[1] == 1:
        images = images.squeeze(1)
    if tuple(images.shape[1:]) != (28, 28):
        raise UserError(f"images must be (B, 28, 28) or (B, 1, 28, 28), and are {shape}")
    if images.dtype != torch.uint8:
        if not images.is_floating_point():
            raise UserError(f"images must be uint8, or floats in [0, 1], and are {images.dtype}")
        if len(images) and not 0 <= images.min() <= images.max() <= 1:
            raise UserError(
                f"images of floats must be in [0, 1], as ToTensor makes them, and are from "
                f"{images.min():g} to {images.max():g}; bytes, from 0 to 255, must be uint8"
            )
    return images


def as_bytes(images: Tensor) -> Tensor:
    """Images (B, 28, 28), bytes or floats in [0, 1], as bytes."""
    return images if images.dtype == torch.uint8 else (images * 255).round().to(torch.uint8)


class Share(NamedTuple):
    """Which images a rank takes for a step; fields as in `Batch`."""

    indices: Tensor  # (B,) int64, into the data set
    first_row: int
    global_size: int
    chunks: tuple[int, ...] = ()


class LabelledImages(Dataset[Batch]):
    """Images and labels in memory, a CPU's or a GPU's, fetched a share at a time."""

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.images = images  # (N, 28, 28) uint8
        self.labels = labels  # (N,) int64

    def to(self, device: torch.device) -> LabelledImages:
        return LabelledImages(self.images.to(device), self.labels.to(device))

    def joined(self, images: Tensor, labels: Tensor) -> LabelledImages:
        """These, and others behind them."""
        return LabelledImages(torch.cat([self.images, images]), torch.cat([self.labels, labels]))

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: Any) -> Any:
        """A `Share` as a `Batch`; an image (28, 28) and its label; or those of several indices."""
        if not isinstance(index, Share):
            label = self.labels[index]
            return self.images[index], label if label.ndim else int(label)
        return Batch(self.images, self.labels, *index[1:], indices=index.indices)


class GlobalBatchSampler(DistributedSampler[Share]):
    """Cuts one order of the data set, the same for any number of ranks, into global batches.

    A subclass, so that Lightning calls ``set_epoch`` and puts no sampler of its own in its place.
    It differs from its parent in what it is for: the parent deals images to the ranks one by one,
    so that a step's images depend on the number of ranks, and repeats some to make all ranks
    equal. Here the ranks share each global batch in contiguous rows, none twice, and have the same
    number of steps; in a last batch that they do not divide, the shares differ by one image.

    Args:
        dataset: What to draw from.
        batch_size: Images in a global batch. The last batch of an epoch may have fewer.
        shuffle: Whether the order is a permutation from (seed, epoch) or that of the data set.
        num_replicas: Number of ranks.
        rank: This rank.
        seed: The run's seed.
        chunks: If not 0, the shares are made of that many pieces of the global batch.
        batches_done: Says how many batches of the epoch are to be left out, since a resumed run
            has them behind it. ``int``, as it is, says 0.

    Raises:
        UserError: If the ranks do not divide `batch_size`, or `chunks`.
    """

    def __init__(
        self,
        dataset: LabelledImages,
        batch_size: int,
        *,
        shuffle: bool,
        num_replicas: int = 1,
        rank: int = 0,
        seed: int = 0,
        chunks: int = 0,
        batches_done: Callable[[], int] = int,
    ) -> None:
        super().__init__(dataset, num_replicas=num_replicas, rank=rank, shuffle=shuffle, seed=seed)
        check_global_batch(batch_size, num_replicas, chunks)
        self.dataset: LabelledImages
        self.size = len(dataset)
        self.batch_size = batch_size
        self.chunks = chunks
        self.batches_done = batches_done

    def __len__(self) -> int:
        return -(-self.size // self.batch_size)

    def __iter__(self) -> Iterator[Share]:
        order = self._order().to(self.dataset.images.device)  # a copy each batch would wait
        for indices in order.split(self.batch_size)[self.batches_done() :]:
            pieces = indices.tensor_split(self.chunks or self.num_replicas)
            mine = len(pieces) // self.num_replicas
            first, end = self.rank * mine, (self.rank + 1) * mine
            first_row = sum(map(len, pieces[:first]))
            chunks = tuple(map(len, pieces[first:end])) if self.chunks else ()
            yield Share(torch.cat(pieces[first:end]), first_row, len(indices), chunks)

    def _order(self) -> Tensor:
        if not self.shuffle:
            return torch.arange(self.size)
        generator = torch.Generator().manual_seed(stream_key(self.seed, self.epoch))
        return torch.randperm(self.size, generator=generator)


class SequentialGlobalBatches(GlobalBatchSampler, SequentialSampler):  # type: ignore[misc]
    """The global batches in the order of the data set, each epoch.

    Lightning knows by the second parent that nothing is shuffled, and leaves the sampler where
    ``Trainer(overfit_batches=…)`` would have it replace one.
    """


def check_global_batch(batch_size: int, world_size: int, chunks: int = 0) -> None:
    """Refuse a global batch that the devices cannot share equally.

    Raises:
        UserError: If `world_size` does not divide `batch_size`, or `chunks`.
    """
    if batch_size < 1 or batch_size % world_size:
        nearest = max(1, round(batch_size / world_size)) * world_size
        raise UserError(
            f"--data.batch_size {batch_size} is the global batch, which {world_size} device(s) "
            f"share equally: choose a multiple of {world_size}, {nearest} for instance"
        )

    if chunks < 0 or chunks % world_size or chunks > batch_size:
        raise UserError(
            f"--data.chunks {chunks}: must be a multiple of the {world_size} device(s) and at most "
            f"--data.batch_size {batch_size}, or 0"
        )
