"""The same model on one device and on several: real processes, over gloo."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.conftest import CNN, Result

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


#: A program, since it is started once a device: all test images, counted and predicted.
COUNT_AND_PREDICT = """
import json, sys
from pathlib import Path
from lightning.pytorch import Trainer
from mnist_cnn import MNISTDataModule, load_classifier
from mnist_cnn.use.prediction_writer import PredictionWriter
checkpoint, data_dir, devices, out = sys.argv[1:]
model, _ = load_classifier(checkpoint)
data = MNISTDataModule(data_dir)
writer = PredictionWriter(f"{out}/{devices}.csv")
trainer = Trainer(devices=int(devices), accelerator="cpu", callbacks=[writer], logger=False)
(metrics,) = trainer.test(model, data)
trainer.predict(model, data, return_predictions=False)
if trainer.is_global_zero:
    Path(out, f"{devices}.json").write_text(json.dumps(metrics))
"""


@pytest.mark.slow
def test_no_image_is_counted_twice_when_the_devices_do_not_divide_them(
    small_net: Path, mnist_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "count_and_predict.py"
    file.write_text(COUNT_AND_PREDICT)
    tables, metrics = {}, {}
    for devices in (1, 3):  # 3 divides neither 10,000 nor the evaluation batch of 128
        command = [str(word) for word in (file, small_net, mnist_root, devices, tmp_path)]
        if devices == 1:
            monkeypatch.setattr(sys, "argv", command)
            runpy.run_path(command[0])
        else:
            done = subprocess.run(
                [sys.executable, *command], capture_output=True, text=True, timeout=600
            )
            assert done.returncode == 0, done.stderr
        table = (tmp_path / f"{devices}.csv").read_text()
        rows = [line.split(",") for line in table.splitlines()[1:]]
        tables[devices] = torch.tensor([[float(value) for value in row] for row in rows])
        metrics[devices] = json.loads((tmp_path / f"{devices}.json").read_text())
    assert tables[1].shape == (10_000, 13)
    torch.testing.assert_close(tables[3], tables[1], rtol=0, atol=2e-6)  # in the same order
    assert metrics[3]["test/accuracy"] == metrics[1]["test/accuracy"]
    assert metrics[3]["test/loss"] == pytest.approx(metrics[1]["test/loss"], rel=1e-6)


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
