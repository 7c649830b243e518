"""One model, to the bit, on any number of devices."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from mnist_cnn.data import MNISTDataModule
from mnist_cnn.training.exact import ExactSum
from mnist_cnn.training.global_batches import GlobalBatchSampler
from tests.conftest import CNN, Result
from tests.support.runs import differences, state

Program = Callable[..., Result]


def test_a_sum_does_not_depend_on_the_order() -> None:
    generator = torch.Generator().manual_seed(0)
    size = 10.0 ** torch.randint(-8, 2, (64, 1000), generator=generator)
    terms = torch.randn(64, 1000, generator=generator) * size
    sums = []
    for order in (range(64), reversed(range(64)), torch.randperm(64, generator=generator).tolist()):
        halves = ExactSum(), ExactSum()  # as two devices would have it
        for place, i in enumerate(order):
            halves[place % 2].add([terms[i]])
        halves[0].add(halves[1].totals)
        sums.append(halves[0].totals[0])
    assert torch.equal(sums[0], sums[1])
    assert torch.equal(sums[0], sums[2])
    torch.testing.assert_close(sums[0], terms.double().sum(0), rtol=0, atol=64 * 2.0**-45)
    assert not torch.equal(terms.sum(0), terms.flip(0).sum(0))  # what it is there for


@pytest.mark.parametrize(("batch_size", "ranks"), [(128, 4), (126, 3)])
def test_shares_are_made_of_the_same_chunks(
    mnist: MNISTDataModule, batch_size: int, ranks: int
) -> None:
    def chunks(ranks: int) -> list[list[int]]:
        samplers = [
            GlobalBatchSampler(
                mnist.train_set, batch_size, shuffle=True, num_replicas=ranks, rank=r, chunks=12
            )
            for r in range(ranks)
        ]
        found = []
        for shares in zip(*samplers, strict=True):
            row = 0
            for share in shares:
                assert share.first_row == row
                row += len(share.indices)
                found += [piece.tolist() for piece in share.indices.split(share.chunks)]
            assert row == share.global_size
        return found

    one = chunks(1)
    assert sum(map(len, one)) == 60_000
    assert chunks(2) == one
    assert chunks(ranks) == one


@pytest.mark.slow
@pytest.mark.parametrize(("name", "rounding"), [("cnn", 1e-5), ("fast", 1e-4)])  # Adam, fused
def test_chunks_change_nothing_but_rounding(
    cli: Program, tmp_path: Path, name: str, rounding: float
) -> None:
    weights = []
    for chunks in (0, 4):
        result = cli(
            *("fit", f"--config=configs/{name}.yaml", "--trainer.max_epochs=1"),
            *("--trainer.limit_train_batches=5", "--trainer.limit_val_batches=1"),
            f"--data.chunks={chunks}",
            f"--trainer.logger.init_args.save_dir={tmp_path / str(chunks)}",
        )
        assert result.code == 0, result.err
        path = tmp_path / str(chunks) / name / "version_0" / "checkpoints" / "last.ckpt"
        weights.append(torch.load(path, weights_only=True)["state_dict"])
    torch.testing.assert_close(weights[0], weights[1], rtol=0, atol=rounding)
    assert differences(*weights)


def test_chunks_that_the_devices_cannot_share_are_refused(cli: Program) -> None:
    devices = ("--trainer.devices=2", "--trainer.strategy=ddp", "--trainer.accelerator=cpu")
    result = cli("fit", *CNN, "--data.chunks=3", *devices)
    assert result.code == 2
    assert "--data.chunks 3: must be a multiple of the 2 device(s)" in result.err


@pytest.mark.slow
def test_any_number_of_devices_trains_the_same_model_to_the_bit(
    cli: Program, program: Program, tmp_path: Path
) -> None:
    """One and three; two are in test_benchmarks.py."""
    found = []
    for devices, run in ((1, cli), (3, program)):
        result = run(
            *("fit", *CNN, "--config=configs/exact.yaml", "--trainer.max_epochs=2"),
            *("--trainer.limit_train_batches=8", "--trainer.log_every_n_steps=1"),
            *("--trainer.limit_val_batches=16", "--trainer.accelerator=cpu"),
            *("--data.batch_size=120", "--data.eval_batch_size=120"),
            *(f"--trainer.devices={devices}", *["--trainer.strategy=ddp"] * (devices > 1)),
            f"--trainer.logger.init_args.save_dir={tmp_path / str(devices)}",
        )
        assert result.code == 0, result.err
        found.append(state(tmp_path / str(devices) / "cnn" / "version_0"))
    one, three = found
    for part in ("weights", "optimizer", "step", "best weights"):
        assert differences(one[part], three[part]) == []
    # The confusion matrix and all else that is drawn from counts.
    assert one["images"].keys() == three["images"].keys()
    assert one["images"] == three["images"]
    assert one["scalars"]["val/accuracy"] == three["scalars"]["val/accuracy"]
