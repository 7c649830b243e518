"""Which images a step sees: the same global batches on any number of devices."""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, Trainer

from mnist_cnn import KerasCNN, MNISTClassifier, MNISTDataModule
from mnist_cnn.data import stratified_split
from mnist_cnn.errors import UserError
from mnist_cnn.training.global_batches import Batch, GlobalBatchSampler, LabelledImages


def shares(
    size: int, batch_size: int, ranks: int, epoch: int = 0, seed: int = 1
) -> list[list[int]]:
    """The global batches, put together from the shares of all ranks."""
    dataset = LabelledImages(torch.zeros(size, 1, 1), torch.zeros(size))
    samplers = [
        GlobalBatchSampler(
            dataset, batch_size, shuffle=True, num_replicas=ranks, rank=rank, seed=seed
        )
        for rank in range(ranks)
    ]
    batches = []
    for sampler in samplers:
        sampler.set_epoch(epoch)
    for step in zip(*samplers, strict=True):  # all ranks have the same number of steps
        rows = [share.indices.tolist() for share in step]
        assert [share.first_row for share in step] == [
            sum(map(len, rows[:r])) for r in range(ranks)
        ]
        assert {share.global_size for share in step} == {sum(map(len, rows))}
        assert max(map(len, rows)) - min(map(len, rows)) <= 1
        batches.append(list(chain(*rows)))
    return batches


@pytest.mark.parametrize("ranks", [2, 3, 4, 6])
@pytest.mark.parametrize("size", [60, 61, 65, 71])
def test_any_number_of_ranks_sees_the_same_global_batches(size: int, ranks: int) -> None:
    alone = shares(size, 12, ranks=1)
    assert shares(size, 12, ranks) == alone
    assert sorted(chain(*alone)) == list(range(size))  # each image once, the last batch kept


def test_the_order_follows_from_seed_and_epoch() -> None:
    orders = {(s, e): shares(100, 100, 1, epoch=e, seed=s)[0] for s in (1, 2) for e in (0, 1)}
    assert len({tuple(order) for order in orders.values()}) == 4  # seed 1 + epoch 1 is not seed 2
    assert shares(100, 100, 1, epoch=1, seed=2)[0] == orders[2, 1]


def test_a_batch_that_the_ranks_do_not_divide_is_refused() -> None:
    with pytest.raises(ValueError, match=r"--data.batch_size 128 .* 3 device.*129"):
        shares(1000, 128, ranks=3)


def test_images_stay_bytes_and_come_in_whole_batches(mnist: MNISTDataModule) -> None:
    assert mnist.train_set.images.dtype == torch.uint8
    assert mnist.train_set.images.shape == (60_000, 28, 28)
    batches: list[Batch] = list(mnist.train_dataloader())
    assert len(batches) == len(mnist.train_dataloader()) == 469
    assert batches[0].images.shape == (128, 28, 28)
    assert batches[0].images.dtype == torch.uint8
    assert batches[-1].size == len(batches[-1].labels) == 96  # kept
    images, labels = batches[-1]
    assert torch.equal(batches[-1][0], images)
    assert torch.equal(batches[-1][1], labels)
    assert sum(int(batch.images.sum()) for batch in batches) == int(mnist.train_set.images.sum())


def test_what_is_missing_before_the_setup_is_named() -> None:
    with pytest.raises(
        AttributeError, match=r"no train_set, before prepare_data\(\) and setup\(\)"
    ):
        MNISTDataModule().train_dataloader()
    assert not hasattr(MNISTDataModule(), "other")


def test_validation_is_on_the_test_images_by_default(mnist: MNISTDataModule) -> None:
    labels = torch.cat([batch.labels for batch in mnist.val_dataloader()])
    assert torch.equal(labels, mnist.test_set.labels)
    assert len(labels) == 10_000


def test_held_out_images_are_no_training_and_no_test_images(mnist: MNISTDataModule) -> None:
    data = MNISTDataModule(mnist.data_dir, val_size=10_000)
    data.setup()
    assert len(data.train_set) == 50_000
    assert len(data.val_set) == 10_000
    assert torch.equal(data.test_set.labels, mnist.test_set.labels)
    both = torch.cat([data.train_set.images, data.val_set.images]).flatten(1)
    whole = mnist.train_set.images.flatten(1)
    assert torch.equal(both.long().sum(0), whole.long().sum(0))  # the two make up the whole
    counts = [torch.bincount(set_.labels) for set_ in (data.val_set, mnist.train_set)]
    assert (counts[0] - counts[1] / 6).abs().max() < 1  # each digit in its proportion


def test_the_split_is_the_same_in_every_run_and_not_sorted() -> None:
    labels = torch.arange(1000) % 10
    (fit, held_out), again = stratified_split(labels, 100), stratified_split(labels, 100)
    assert torch.equal(held_out, again[1])
    assert torch.equal(torch.bincount(labels[held_out]), torch.full((10,), 10))
    assert torch.equal(torch.cat([fit, held_out]).sort().values, torch.arange(1000))
    assert len(set(held_out.diff().tolist())) > 5  # drawn, not every tenth


@pytest.mark.parametrize(
    "wrong", [{"val_size": -1}, {"val_size": 60_000}, {"batch_size": 0}, {"eval_batch_size": 0}]
)
def test_sizes_out_of_range_are_refused(wrong: dict[str, int], mnist: MNISTDataModule) -> None:
    with pytest.raises(ValueError, match=f"--data.*{next(iter(wrong))}"):
        MNISTDataModule(mnist.data_dir, **wrong).setup()  # type: ignore[arg-type]


class Labels(Callback):
    """Keeps the labels of each training batch."""

    def __init__(self) -> None:
        self.seen: dict[int, list[int]] = {}

    def on_train_batch_end(
        self, trainer: Trainer, module: object, outputs: object, batch: Batch, batch_idx: int
    ) -> None:
        self.seen.setdefault(trainer.current_epoch, []).extend(batch.labels.tolist())


def test_lightning_passes_the_epoch_on(mnist: MNISTDataModule) -> None:
    seen = Labels()
    trainer = Trainer(
        max_epochs=2,
        limit_train_batches=2,
        limit_val_batches=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[seen],
    )
    trainer.fit(MNISTClassifier(KerasCNN((2, 2), 8)), datamodule=mnist)
    for epoch in (0, 1):
        sampler = GlobalBatchSampler(mnist.train_set, 128, shuffle=True)
        sampler.set_epoch(epoch)
        expected = torch.cat([share.indices for share in list(sampler)[:2]])
        assert seen.seen[epoch] == mnist.train_set.labels[expected].tolist()
    assert seen.seen[0] != seen.seen[1]


def test_images_of_ones_own_are_trained_on_as_well(mnist: MNISTDataModule, tmp_path: Path) -> None:
    images = np.arange(3 * 784).reshape(3, 28, 28).astype(np.uint8)
    np.savez(tmp_path / "mine.npz", images=images, labels=np.array([7, 0, 9], np.uint8))
    data = MNISTDataModule(mnist.data_dir, val_size=100, extra=str(tmp_path / "mine.npz"))
    data.setup()
    assert (len(data.train_set), len(data.val_set), len(data.test_set)) == (59_903, 100, 10_000)
    assert torch.equal(data.train_set.images[-3:], torch.from_numpy(images))
    assert data.train_set.labels[-3:].tolist() == [7, 0, 9]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (None, "no such file. That of pictures.yaml is made by"),
        (b"no zip", "must be an .npz file"),
        ({"images": np.zeros((2, 28, 28), np.uint8)}, "arrays images and labels"),
        ({"images": np.zeros((2, 28, 28)), "labels": [1, 2]}, "of float64"),
        ({"images": np.zeros((2, 28, 28), np.uint8), "labels": [1]}, "must be 1 x 28 x 28"),
        ({"images": np.zeros((1, 28, 28), np.uint8), "labels": [10]}, "from 0 to 9"),
    ],
    ids=["missing", "text", "no labels", "floats", "a label too few", "ten"],
)
def test_what_cannot_be_trained_on_is_named(
    arrays: Any, message: str, mnist: MNISTDataModule, tmp_path: Path
) -> None:
    path = tmp_path / "mine.npz"
    if isinstance(arrays, bytes):
        path.write_bytes(arrays)
    elif arrays:
        np.savez(path, **arrays)
    data = MNISTDataModule(mnist.data_dir, extra=str(path))
    with pytest.raises(UserError, match=message) as raised:
        data.setup()
    assert str(path) in str(raised.value)
