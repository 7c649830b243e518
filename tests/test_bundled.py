"""The trained model that comes along: small, as good as it says, and there without being named."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from mnist_cnn import KerasCNN, MNISTClassifier, MNISTDataModule
from mnist_cnn.checkpoints.files import BUNDLED, read_checkpoint
from mnist_cnn.settings import config_files
from mnist_cnn.use.export import export
from tests.conftest import CNN, Result, save

Cli = Callable[..., Result]


def test_it_is_small_and_says_what_it_is() -> None:
    assert BUNDLED.stat().st_size < 5e6
    facts = read_checkpoint(BUNDLED)["metadata"]
    assert facts["net"]["class_path"] == "mnist_cnn.nets.RecordCNN"
    assert float(facts["test_accuracy"]) > 0.9965  # seeds and recipes differ by 0.0002
    made_by = config_files.read(config_files.FOLDER / "pictures.yaml")
    assert facts["epochs"] == str(made_by["trainer"]["max_epochs"])


def test_predict_takes_it(cli: Cli, mnist: MNISTDataModule, tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for index in range(20):
        picture = Image.fromarray(255 - mnist.test_set.images[index].numpy())
        picture.resize((112, 112)).save(folder / f"{index:02}.png")
    table = tmp_path / "digits.csv"
    done = cli("predict", folder, "--out", table)
    assert done.code == 0, done.err
    digits = [int(row["digit"]) for row in csv.DictReader(table.open())]
    assert digits == mnist.test_set.labels[:20].tolist()


@pytest.mark.slow
def test_it_is_not_taken_for_another_net(cli: Cli) -> None:
    for command in ("predict", "test"):
        refused = cli(command, *CNN)
        assert refused.code == 2
        assert "where are the weights of this KerasCNN" in refused.err
    larger = ("--model.net=mnist_cnn.RecordCNN", "--model.net.init_args.num_classes=11")
    refused = cli("test", *larger)
    assert refused.code == 2
    assert "where are the weights of this RecordCNN" in refused.err


@pytest.mark.slow
@pytest.mark.parametrize(("command", "part"), [("test", "test"), ("validate", "val")])
def test_it_is_measured_where_no_checkpoint_is_named(
    cli: Cli, logs: Path, command: str, part: str
) -> None:
    flags = (f"--trainer.limit_{part}_batches=4", "--data.eval_batch_size=250")
    done = cli(command, *flags)
    assert done.code == 0, done.err
    assert "the included model" in done.err
    (accuracy,) = re.findall(r"/accuracy\D+([\d.]+)", done.out)
    assert float(accuracy) > 0.99


def test_shifts_can_be_asked_for_of_any_checkpoint(
    cli: Cli, mnist: MNISTDataModule, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    model = MNISTClassifier(KerasCNN(filters=(4, 8), hidden=16))
    checkpoint, table = save(model, tmp_path / "small.ckpt"), tmp_path / "digits.csv"
    flags = ["--model.test_shifts=1", "--trainer.limit_predict_batches=1"]
    done = cli("predict", "--ckpt_path", checkpoint, *flags, "--predictions.path", table)
    assert done.code == 0, done.err
    found = torch.tensor([float(row["p3"]) for row in csv.DictReader(table.open())])
    model.test_shifts = 1
    with torch.inference_mode():
        expected = model.eval()(mnist.test_set.images[: len(found)]).softmax(dim=1)[:, 3]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


@pytest.mark.slow
def test_it_is_as_good_as_it_says_and_what_export_writes(
    mnist: MNISTDataModule, tmp_path: Path
) -> None:
    """As ``torch_export``; as ONNX it is exported by README's command."""
    # Export measures all test images, and compares 1,000 answers of what it has written.
    metadata = export([BUNDLED], "torch_export", tmp_path / "digits")
    assert metadata["test_shifts"] == "1"
    assert metadata["test_accuracy"] == read_checkpoint(BUNDLED)["metadata"]["test_accuracy"]
