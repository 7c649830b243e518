"""The same model on one device and on several: real processes, over gloo."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.conftest import CNN, SMALL, Result

Program = Callable[..., Result]
#: Five training steps with dropout, and all 10,000 validation images.
FIVE_STEPS = (
    *CNN,
    "--trainer.max_epochs=1",
    "--trainer.limit_train_batches=5",
    "--trainer.log_every_n_steps=1",
    "--trainer.accelerator=cpu",
)


def losses(folder: Path) -> torch.Tensor:
    events = EventAccumulator(str(folder))
    events.Reload()
    return torch.tensor([e.value for e in events.Scalars("over_images/train/loss_of_step")])


@pytest.mark.slow
@pytest.mark.parametrize("flags", [(), ("--model.record_step=true",)], ids=["", "whole steps"])
def test_two_processes_train_the_model_that_one_trains(
    cli: Program, program: Program, tmp_path: Path, flags: tuple[str, ...]
) -> None:
    runs = {}
    two_devices = ("--config", "configs/ddp.yaml", *flags)  # the gradients' sum in the step
    for devices, run, flags in ((1, cli, ()), (2, program, two_devices)):
        logs = f"--trainer.logger.init_args.save_dir={tmp_path / str(devices)}"
        result = run("fit", *FIVE_STEPS, "--trainer.limit_val_batches=4", *flags, logs)
        assert result.code == 0, result.err
        assert f"= {devices} device(s) x {128 // devices}" in result.out
        assert result.out.count("Best val_accuracy") == 1  # one rank speaks
        (runs[devices],) = (tmp_path / str(devices) / "cnn").iterdir()  # one folder, of all ranks
    one, two = (
        torch.load(runs[d] / "checkpoints" / "last.ckpt", weights_only=True) for d in (1, 2)
    )
    torch.testing.assert_close(losses(runs[2]), losses(runs[1]), rtol=0, atol=1e-5)
    torch.testing.assert_close(two["state_dict"], one["state_dict"], rtol=0, atol=1e-5)


@pytest.mark.slow
def test_no_image_is_counted_twice_when_the_devices_do_not_divide_them(
    cli: Program, program: Program, logs: Path, tmp_path: Path
) -> None:
    assert cli("fit", *FIVE_STEPS, *SMALL, "--data.batch_size=1024").code == 0
    last = logs / "cnn" / "version_0" / "checkpoints" / "last.ckpt"
    tables = {}
    # 3 divides neither 10,000 nor the evaluation batch of 128
    for devices, run in ((1, cli), (3, program)):
        flags = (f"--trainer.devices={devices}", "--trainer.accelerator=cpu")
        path = tmp_path / f"{devices}.csv"
        predict = run("predict", *flags, "--ckpt_path", last, "--predictions.path", path)
        assert predict.code == 0, predict.err
        rows = [line.split(",") for line in path.read_text().splitlines()[1:]]
        tables[devices] = torch.tensor([[float(value) for value in row] for row in rows])
        test = run("test", *flags, "--ckpt_path", last)
        assert test.code == 0, test.err
    assert tables[1].shape == (10_000, 13)
    torch.testing.assert_close(tables[3], tables[1], rtol=0, atol=2e-6)  # in the same order
    metrics = []
    for folder in sorted((logs / "cnn").iterdir()):
        events = EventAccumulator(str(folder))
        events.Reload()
        if "test/accuracy" in events.Tags()["scalars"]:
            metrics.append([events.Scalars(f"test/{m}")[0].value for m in ("accuracy", "loss")])
    (accuracy1, loss1), (accuracy3, loss3) = metrics
    assert accuracy1 == accuracy3
    torch.testing.assert_close(torch.tensor(loss3), torch.tensor(loss1), rtol=1e-6, atol=0)


@pytest.mark.slow
def test_the_record_net_is_one_model_too(cli: Program, program: Program, tmp_path: Path) -> None:
    """Augmentation and batch normalisation see the global batch, not a device's share of it."""
    steps = ("--trainer.max_epochs=1", "--trainer.limit_train_batches=4")
    # Not AdamW, which makes whole steps of gradients that are nearly zero: rounding decides where.
    sgd = ("--model.optimizer=torch.optim.SGD", "--model.optimizer.init_args.lr=0.01")
    exact = (*sgd, "--trainer.precision=32-true")
    others = ("--trainer.accelerator=cpu", "--trainer.log_every_n_steps=1")
    none = ("--trainer.limit_val_batches=0", "--last_checkpoint.every_n_train_steps=1")
    seen = {}
    for devices, start in ((1, cli), (2, program)):
        logs = f"--trainer.logger.init_args.save_dir={tmp_path / str(devices)}"
        flags = (*steps, *exact, *others, *none, f"--trainer.devices={devices}", logs)
        result = start("fit", "--config", "configs/record.yaml", *flags)
        assert result.code == 0, result.err
        run = tmp_path / str(devices) / "record" / "version_0"
        checkpoint = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
        seen[devices] = losses(run), checkpoint["current_model_state"]
    (losses1, weights1), (losses2, weights2) = seen[1], seen[2]
    assert len(losses1) == 4
    torch.testing.assert_close(losses2, losses1, rtol=0, atol=1e-5)
    assert sum("running" in name for name in weights1) == 10
    torch.testing.assert_close(weights2, weights1, rtol=1e-4, atol=1e-4)
