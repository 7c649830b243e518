"""The moving average of the weights is Lightning's."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer, seed_everything
from lightning.pytorch.callbacks import EMAWeightAveraging

from mnist_cnn import MNISTClassifier, MNISTDataModule, RecordCNN
from mnist_cnn.training.averaging import MovingAverage


def trained(
    data: MNISTDataModule, make: Callable[[], Callback], path: Path, start: Path | None = None
) -> dict[str, Any]:
    """The averaged weights after six steps, or four more; what goes on from them is at `path`."""
    seed_everything(1, verbose=False)
    module = MNISTClassifier(RecordCNN((4, 8, 8)))
    run = Trainer(
        accelerator="cpu",
        callbacks=make(),
        max_epochs=2 if start else 1,
        limit_train_batches=6,
        limit_val_batches=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    run.fit(module, data, ckpt_path=start)
    run.save_checkpoint(path)
    weights: dict[str, Any] = module.state_dict()
    return {name: x for name, x in weights.items() if x.is_floating_point()}


@pytest.mark.parametrize(
    "settings",
    [{}, {"update_every_n_steps": 2}, {"update_starting_at_step": 3}],
    ids=["each step", "each second", "from the fourth on"],
)
def test_it_is_lightning_s_to_the_bit(
    mnist: MNISTDataModule, tmp_path: Path, settings: dict[str, Any]
) -> None:
    found = {}
    for kind in (MovingAverage, EMAWeightAveraging):
        make = partial(kind, decay=0.9, **settings)
        found[kind] = trained(mnist, make, tmp_path / kind.__name__)
    ours, theirs = found.values()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.slow
def test_each_goes_on_from_the_other_s_checkpoint(mnist: MNISTDataModule, tmp_path: Path) -> None:
    ours, theirs = (partial(kind, decay=0.9) for kind in (MovingAverage, EMAWeightAveraging))
    found = []
    for first, then in ((ours, theirs), (theirs, ours), (theirs, theirs)):
        trained(mnist, first, tmp_path / "first.ckpt")
        found.append(trained(mnist, then, tmp_path / "second.ckpt", tmp_path / "first.ckpt"))
    for name, expected in found.pop().items():
        assert all(torch.equal(weights[name], expected) for weights in found), name
